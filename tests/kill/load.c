/*
 * What is done to a disk in a guest that is going to be killed, and whether the disk is right afterwards.
 *
 *   load write DEVICE SEED THREADS                in the guest: writes, zeroes, discards and flushes without end
 *   load check BEFORE AFTER SEED THREADS LOG      on the host: raw images, and what the guest said
 *
 * Each thread has a part of the disk for itself and works in rounds: some operations, then a flush, then the words
 * "flushed THREAD ROUND". SEED gives all of it, so the checker does it again in memory. What is in a sector says which
 * round wrote it, and a round begins only after the one before was flushed. So of the last round that the guest spoke
 * of, and of the one before the last that left anything, everything must be there; of the next one anything may be.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SECTOR 512u
#define WORDS (SECTOR / sizeof(uint64_t))
#define MAGIC 0x52696e6773696465ull
#define THREADS_MAX 16u
#define OPS_MAX 8u
#define SECTORS_MAX 256u

enum kind { WRITE, ZERO, DISCARD };

struct op {
	enum kind kind;
	uint64_t sector; /* of the disk */
	unsigned count;
};

/* ---- what is done ---- */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

/* The operations of a round; how many. `first`, `sectors`: the thread's part of the disk. */
static unsigned make_round(uint64_t seed, unsigned thread, uint64_t round, uint64_t first, uint64_t sectors, struct op *op)
{
	uint64_t r = mix(seed ^ mix(thread ^ mix(round)));
	unsigned ops = 1 + (unsigned)(r % OPS_MAX);

	for (unsigned n = 0; n < ops; n++) {
		unsigned what = (unsigned)((r = mix(r)) % 10), most = (r = mix(r)) % 4 ? 16 : SECTORS_MAX;

		op[n].kind = what == 0 ? ZERO : what == 1 ? DISCARD : WRITE;
		op[n].count = 1 + (unsigned)((r = mix(r)) % most);
		op[n].sector = first + (r = mix(r)) % (sectors - op[n].count);
	}
	return ops;
}

static void fill_sector(uint64_t *to, uint64_t seed, unsigned thread, uint64_t round, unsigned op, uint64_t sector)
{
	uint64_t r = mix(seed ^ mix(round * OPS_MAX + op) ^ sector);

	to[0] = MAGIC;
	to[1] = seed;
	to[2] = thread;
	to[3] = round;
	to[4] = op;
	to[5] = sector;
	for (unsigned n = 6; n < WORDS; n++)
		to[n] = r = r * 6364136223846793005ull + 1442695040888963407ull;
}

/* ---- in the guest ---- */

struct thread {
	pthread_t id;
	int fd;
	uint64_t seed, first, sectors;
	unsigned number;
};

static void fail(const char *what)
{
	printf("load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void perform(const struct thread *t, const struct op *op, uint64_t round, unsigned n, uint64_t *buf)
{
	uint64_t range[2] = {op->sector * SECTOR, (uint64_t)op->count * SECTOR};

	switch (op->kind) {
	case WRITE:
		for (unsigned s = 0; s < op->count; s++)
			fill_sector(buf + s * WORDS, t->seed, t->number, round, n, op->sector + s);
		if (pwrite(t->fd, buf, range[1], (off_t)range[0]) != (ssize_t)range[1])
			fail("pwrite");
		break;
	case ZERO:
		if (ioctl(t->fd, BLKZEROOUT, range) < 0)
			fail("BLKZEROOUT");
		break;
	case DISCARD:
		if (ioctl(t->fd, BLKDISCARD, range) < 0 && errno != EOPNOTSUPP)
			fail("BLKDISCARD");
		break;
	}
}

static void *thread_main(void *opaque)
{
	const struct thread *t = opaque;
	uint64_t *buf = aligned_alloc(4096, SECTORS_MAX * SECTOR);
	struct op op[OPS_MAX];

	if (!buf)
		fail("memory");
	for (uint64_t round = 1;; round++) {
		unsigned ops = make_round(t->seed, t->number, round, t->first, t->sectors, op);

		for (unsigned n = 0; n < ops; n++)
			perform(t, &op[n], round, n, buf);
		if (fdatasync(t->fd) < 0)
			fail("fdatasync");
		printf("flushed %u %llu\n", t->number, (unsigned long long)round);
		fflush(stdout);
	}
	return NULL;
}

static int write_forever(const char *path, uint64_t seed, unsigned threads)
{
	static struct thread thread[THREADS_MAX];
	int fd = open(path, O_RDWR | O_DIRECT);
	uint64_t size;

	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) < 0)
		fail(path);
	for (unsigned n = 0; n < threads; n++) {
		uint64_t sectors = size / SECTOR / threads;

		thread[n] = (struct thread){.fd = fd, .seed = seed, .first = n * sectors, .sectors = sectors, .number = n};
		if (pthread_create(&thread[n].id, NULL, thread_main, &thread[n]) != 0)
			fail("threads");
	}
	pthread_join(thread[0].id, NULL);
	return 1;
}

/* ---- on the host ---- */

struct image {
	uint8_t *data;
	uint64_t sectors;
};

static struct image read_image(const char *path)
{
	struct image i = {0};
	int fd = open(path, O_RDONLY);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	if (size < 0 || !(i.data = malloc((size_t)size)) || pread(fd, i.data, (size_t)size, 0) != size)
		fail(path);
	close(fd);
	i.sectors = (uint64_t)size / SECTOR;
	return i;
}

/* What may be in a sector: what was there before, `round`'s write, zeroes, or anything (it was discarded). */
struct state {
	enum { BEFORE, WRITTEN, ZEROES, ANY } kind;
	uint8_t op;
	uint32_t round;
};

static void apply(const struct op *op, uint64_t round, unsigned n, struct state *s, uint64_t first)
{
	static const int kind[] = {[WRITE] = WRITTEN, [ZERO] = ZEROES, [DISCARD] = ANY};

	for (unsigned i = 0; i < op->count; i++)
		s[op->sector - first + i] = (struct state){kind[op->kind], (uint8_t)n, (uint32_t)round};
}

static bool is_so(const struct state *s, uint64_t seed, unsigned thread, uint64_t sector, const uint8_t *before,
		  const uint8_t *now)
{
	uint64_t want[WORDS] = {0};

	if (s->kind == ANY)
		return true;
	if (s->kind == BEFORE)
		return memcmp(now, before, SECTOR) == 0;
	if (s->kind == WRITTEN)
		fill_sector(want, seed, thread, s->round, s->op, sector);
	return memcmp(now, want, SECTOR) == 0;
}

/* The last round that left anything in a thread's part. */
static uint64_t last_seen(const struct image *after, uint64_t seed, unsigned thread, uint64_t first, uint64_t sectors)
{
	uint64_t last = 0, w[4];

	for (uint64_t s = first; s < first + sectors; s++) {
		memcpy(w, after->data + s * SECTOR, sizeof w);
		if (w[0] == MAGIC && w[1] == seed && w[2] == thread && w[3] > last)
			last = w[3];
	}
	return last;
}

static bool could_be(const struct op *op, unsigned ops, uint64_t round, uint64_t seed, unsigned thread, uint64_t sector,
		     const uint8_t *now)
{
	for (unsigned n = 0; n < ops; n++) {
		struct state s;

		if (sector - op[n].sector >= op[n].count)
			continue;
		apply(&(struct op){op[n].kind, sector, 1}, round, n, &s, sector);
		if (is_so(&s, seed, thread, sector, NULL, now))
			return true;
	}
	return false;
}

/* False: something is lost. */
static bool check_thread(const struct image *before, const struct image *after, uint64_t seed, unsigned thread,
			 uint64_t first, uint64_t sectors, uint64_t said)
{
	uint64_t seen = last_seen(after, seed, thread, first, sectors), whole = seen && seen - 1 > said ? seen - 1 : said;
	struct state *s = calloc(sectors, sizeof *s);
	struct op op[OPS_MAX];
	unsigned ops, wrong = 0;

	if (!s)
		fail("memory");
	for (uint64_t round = 1; round <= whole; round++) {
		ops = make_round(seed, thread, round, first, sectors, op);
		for (unsigned n = 0; n < ops; n++)
			apply(&op[n], round, n, s, first);
	}
	ops = make_round(seed, thread, whole + 1, first, sectors, op);
	for (uint64_t i = 0; i < sectors; i++) {
		const uint8_t *now = after->data + (first + i) * SECTOR;

		if (is_so(&s[i], seed, thread, first + i, before->data + (first + i) * SECTOR, now) ||
		    could_be(op, ops, whole + 1, seed, thread, first + i, now))
			continue;
		if (wrong++ == 0)
			printf("thread %u: sector %llu is not as round %llu left it (flushed: round %llu)\n", thread,
			       (unsigned long long)(first + i), (unsigned long long)s[i].round, (unsigned long long)whole);
	}
	printf("thread %u: %llu rounds flushed as it said, %llu by what is there, %u sectors wrong\n", thread,
	       (unsigned long long)said, (unsigned long long)whole, wrong);
	free(s);
	return wrong == 0;
}

static void read_log(const char *path, uint64_t *said)
{
	FILE *f = fopen(path, "r");
	char line[256];
	unsigned thread;
	unsigned long long round;

	if (!f)
		fail(path);
	/* The last line may be cut off. */
	while (fgets(line, sizeof line, f))
		if (strchr(line, '\n') && sscanf(line, "flushed %u %llu", &thread, &round) == 2 && thread < THREADS_MAX &&
		    round > said[thread])
			said[thread] = round;
	fclose(f);
}

static int check(const char *before_path, const char *after_path, uint64_t seed, unsigned threads, const char *log)
{
	struct image before = read_image(before_path), after = read_image(after_path);
	uint64_t said[THREADS_MAX] = {0}, sectors = after.sectors / threads;
	bool ok = before.sectors == after.sectors;

	read_log(log, said);
	for (unsigned n = 0; ok && n < threads; n++)
		if (!check_thread(&before, &after, seed, n, n * sectors, sectors, said[n]))
			ok = false;
	free(before.data);
	free(after.data);
	return !ok;
}

int main(int argc, char **argv)
{
	unsigned threads = argc > 4 ? (unsigned)atoi(argv[argc == 5 ? 4 : 5]) : 0;

	if (argc == 5 && strcmp(argv[1], "write") == 0 && threads && threads <= THREADS_MAX)
		return write_forever(argv[2], strtoull(argv[3], NULL, 10), threads);
	if (argc == 7 && strcmp(argv[1], "check") == 0 && threads && threads <= THREADS_MAX)
		return check(argv[2], argv[3], strtoull(argv[4], NULL, 10), threads, argv[6]);
	fprintf(stderr, "usage: load write DEVICE SEED THREADS | load check BEFORE AFTER SEED THREADS LOG\n");
	return 2;
}
