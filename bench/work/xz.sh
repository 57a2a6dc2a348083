# Text, compressed at level 6 by one thread, and back.
xz -T1 -6 -c /work/corpus >/tmp/corpus.xz || exit 1
xz -dc /tmp/corpus.xz | /bin/busybox cmp - /work/corpus || exit 1
exec /bin/busybox sha256sum /tmp/corpus.xz
