# A C program of about 2000 lines: compiled with -O2, assembled, linked, run.
cd /tmp || exit 1
for part in part0 part1 part2 main; do
	gcc -O2 -Wall -c -o $part.o /work/program/$part.c || exit 1
done
gcc -o program part0.o part1.o part2.o main.o || exit 1
./program || exit 1
exec /bin/busybox sha256sum program
