# Signatures, each made and verified, as `openssl speed rsa2048` does.
exec /work/crypto rsa2048 /work/key.pem 300
