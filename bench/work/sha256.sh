# 16 KiB blocks, as `openssl speed sha256` has at the end.
exec /work/crypto sha256 16384
