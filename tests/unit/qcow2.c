/*
 * qcow2 images beside qemu-img: random work on images of every kind, many requests at once, whose result must be what
 * was written, be what QEMU reads, and pass `qemu-img check`; and images whose writer is killed at random moments, which
 * must pass it but for clusters that are counted and not used, and hold all that was flushed. Also a disk of a server.
 *
 * QCOW2_KILLS=n: how often (20). QCOW2_SEED=n: other random numbers.
 */
#include "block_fixture.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define SIZE (24u << 20)
#define SECTORS (SIZE / 512)
#define AT_ONCE 8

static uint8_t mirror[SIZE], buf[SIZE];

/* A command of the shell; its exit status. */
static int command(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int command(const char *fmt, ...)
{
	char line[2048];
	va_list ap;

	va_start(ap, fmt);
	int len = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	snprintf(line + len, sizeof line - (size_t)len, " >%s/output 2>&1", directory);
	int status = system(line);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void show_output(const char *what)
{
	printf("# %s\n", what);
	fflush(stdout);
	char line[300];
	snprintf(line, sizeof line, "sed 's/^/# /' %s/output | head -20", directory);
	if (system(line) != 0)
		printf("# no output\n");
}

/* 0: clean. leaks: clusters that are counted and not used are fine. */
static bool is_sound(const char *path, bool leaks)
{
	int status = command("qemu-img check -f qcow2 %s", path);

	/* The kernel ends what a killed process had going on, and keeps its locks until then. */
	char locked[300];
	snprintf(locked, sizeof locked, "grep -q lock %s/output", directory);
	for (unsigned n = 0; status == 1 && n < 50 && system(locked) == 0; n++) {
		usleep(20000);
		status = command("qemu-img check -f qcow2 %s", path);
	}

	if (status != 0 && !(leaks && status == 3)) {
		show_output(path);
		return false;
	}
	return true;
}

static void fill(uint8_t *p, size_t len)
{
	uint64_t v = random64();

	for (size_t n = 0; n < len; n += 8, v = v * 6364136223846793005u + 1442695040888963407u)
		memcpy(p + n, &v, 8);
}

/* ---- random work ---- */

struct job {
	struct block_request r;
	struct iovec iov[2];
	uint8_t data[256 * 1024];
	struct wait wait;
};

static struct job jobs[AT_ONCE];

static bool overlaps(const struct job *j, uint64_t offset, uint64_t len)
{
	return offset < j->r.offset + j->r.len && j->r.offset < offset + len;
}

static void start_job(struct block *b, unsigned n, unsigned others, uint64_t size)
{
	struct job *j = &jobs[n];
	uint64_t offset, len;
	bool again;

	do {
		offset = random64() % (size / 512) * 512;
		len = (random64() % 4 ? random64() % 16 : random64() % 512) * 512 + 512;
		if (random64() % 3 == 0) {
			offset &= ~0xffffull;
			len = (len + 0xffff) & ~0xffffull;
		}
		if (len > sizeof j->data)
			len = sizeof j->data;
		if (len > size - offset)
			len = size - offset;
		again = false;
		for (unsigned i = 0; i < others; i++)
			again |= overlaps(&jobs[i], offset, len);
	} while (again);
	uint64_t cut = random64() % len;
	j->iov[0] = (struct iovec){j->data, cut};
	j->iov[1] = (struct iovec){j->data + cut, len - cut};
	j->wait = (struct wait){0};
	j->r = (struct block_request){.offset = offset, .len = len, .iov = j->iov, .iov_count = 2, .done = wait_done,
				      .opaque = &j->wait};
	unsigned kind = random64() % 20;
	j->r.op = kind < 11 ? BLOCK_WRITE : kind < 16 ? BLOCK_READ : kind < 18 ? BLOCK_WRITE_ZEROES : BLOCK_DISCARD;
	j->r.may_unmap = kind == 16;
	if (j->r.op == BLOCK_WRITE) {
		fill(j->data, len);
		memcpy(mirror + offset, j->data, len);
	} else if (j->r.op == BLOCK_WRITE_ZEROES) {
		memset(mirror + offset, 0, len);
	}
	block_submit(b, &j->r);
}

/* What a discard leaves is whatever the disk then says: old bytes or zeroes. */
static bool take_discarded(struct block *b, const struct job *j)
{
	uint8_t *p = mirror + j->r.offset;

	if (run(b, BLOCK_READ, j->r.offset, buf, j->r.len) != 0)
		return false;
	for (uint64_t n = 0; n < j->r.len; n++)
		if (buf[n] != p[n] && buf[n] != 0)
			return false;
	memcpy(p, buf, j->r.len);
	return true;
}

static bool work(struct block *b, unsigned rounds)
{
	uint64_t size = block_size(b);
	bool good = true;

	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned n = 0; n < AT_ONCE; n++)
			start_job(b, n, n, size);
		block_drain(b);
		for (unsigned n = 0; n < AT_ONCE; n++) {
			struct job *j = &jobs[n];

			good &= j->wait.ended && j->wait.result == 0;
			if (j->r.op == BLOCK_READ)
				good &= memcmp(j->data, mirror + j->r.offset, j->r.len) == 0;
			if (j->r.op == BLOCK_DISCARD)
				good &= take_discarded(b, j);
		}
		if (random64() % 8 == 0)
			good &= run(b, BLOCK_FLUSH, 0, NULL, 0) == 0;
	}
	return good;
}

static bool is_mirror(struct block *b)
{
	uint64_t size = block_size(b);

	return run(b, BLOCK_READ, 0, buf, size) == 0 && memcmp(buf, mirror, size) == 0;
}

static void load(const char *path)
{
	struct block *b = open_disk((struct block_config){.path = path, .readonly = true});

	memset(mirror, 0, sizeof mirror);
	CHECK(b && run(b, BLOCK_READ, 0, mirror, block_size(b)) == 0);
	block_close(b);
}

static void save_mirror(const char *path, uint64_t size)
{
	FILE *f = fopen(path, "w");

	CHECK(f && fwrite(mirror, 1, size, f) == size && fclose(f) == 0);
}

/* Works on the image at `path`, whose contents are in `mirror`. */
static void work_on(const char *path, const char *what, unsigned rounds)
{
	unsigned before = failed;
	uint64_t size = 0;

	for (unsigned life = 0; life < 2; life++) {
		struct block *b = open_disk((struct block_config){.path = path, .aio = life});

		CHECK(b != NULL);
		if (!b)
			return;
		size = block_size(b);
		CHECK(is_mirror(b));
		CHECK(work(b, rounds));
		CHECK(is_mirror(b));
		block_close(b);
		CHECK(is_sound(path, false));
	}
	save_mirror(path_of("mirror"), size);
	int same = command("qemu-img compare -f raw -F qcow2 %s %s", path_of("mirror"), path);
	CHECK(same == 0);
	if (failed != before)
		show_output(what);
}

static void test_options(const char *options, uint64_t size, unsigned rounds)
{
	const char *path = path_of("options.qcow2");

	CHECK(command("qemu-img create -q -f qcow2 -o %s %s %llu", options, path, (unsigned long long)size) == 0);
	memset(mirror, 0, sizeof mirror);
	work_on(path, options, rounds);
	unlink(path);
}

/* ---- images with something in them ---- */

static void make_contents(const char *path)
{
	memset(mirror, 0, sizeof mirror);
	for (unsigned n = 0; n < 60; n++) {
		uint64_t offset = random64() % (SIZE / 4096) * 4096, len = random64() % 300000 / 8 * 8;

		if (len > SIZE - offset)
			len = SIZE - offset;
		if (n % 3)
			memset(mirror + offset, (int)n, len); /* compresses well */
		else
			fill(mirror + offset, len);
	}
	save_mirror(path, SIZE);
}

static void test_compressed(const char *options)
{
	const char *raw = path_of("contents"), *path = path_of("compressed.qcow2");

	make_contents(raw);
	CHECK(command("qemu-img convert -c -f raw -O qcow2 -o %s %s %s", options, raw, path) == 0);
	work_on(path, options, 60);
	unlink(path);
	unlink(raw);
}

static void test_backing(const char *options, uint64_t size)
{
	const char *raw = path_of("contents"), *middle = path_of("middle.qcow2"), *path = path_of("top.qcow2");

	make_contents(raw);
	CHECK(command("qemu-img create -q -f qcow2 -F raw -b contents -o %s %s %llu", options, middle,
		      (unsigned long long)size) == 0);
	load(middle);
	work_on(middle, options, 30);
	CHECK(command("qemu-img create -q -f qcow2 -F qcow2 -b middle.qcow2 -o %s %s %u", options, path, SIZE) == 0);
	load(path);
	work_on(path, options, 60);
	CHECK(is_sound(middle, false));
	unlink(path);
	unlink(middle);
	unlink(raw);
}

static void test_snapshots(const char *options)
{
	const char *path = path_of("snapshots.qcow2");
	static uint8_t first[SIZE];

	CHECK(command("qemu-img create -q -f qcow2 -o %s %s %u", options, path, SIZE) == 0);
	memset(mirror, 0, sizeof mirror);
	work_on(path, options, 20);
	memcpy(first, mirror, SIZE);
	CHECK(command("qemu-img snapshot -c one %s", path) == 0);
	work_on(path, "after a snapshot", 20);
	CHECK(command("qemu-img snapshot -c two %s", path) == 0);
	work_on(path, "after two", 20);
	CHECK(command("qemu-img snapshot -d two %s", path) == 0);
	work_on(path, "after one was deleted", 20);
	memcpy(mirror, first, SIZE);
	for (unsigned n = 0; n < 4; n++) { /* by name and by number, read-only and with writes that are gone at the end */
		struct block *b = open_disk((struct block_config){.path = path, .internal = n & 1 ? "1" : "one",
								  .readonly = n & 2, .snapshot = !(n & 2)});

		CHECK(b && block_size(b) == SIZE && is_mirror(b));
		if (b && !(n & 2))
			CHECK(work(b, 5) && is_mirror(b));
		if (b)
			block_close(b);
		memcpy(mirror, first, SIZE);
	}
	CHECK(!block_open(loop, &(struct block_config){.path = path, .internal = "one"}, error, sizeof error));
	CHECK(!block_open(loop, &(struct block_config){.path = path, .internal = "two", .readonly = true}, error, sizeof error));
	CHECK(is_sound(path, false));
	CHECK(command("qemu-img snapshot -a one %s", path) == 0);
	work_on(path, "back at the first", 20);
	unlink(path);
}

/* ---- killed writers ---- */

#define BLOCK 4096u
#define BLOCKS (SIZE / BLOCK)

/* Generations of each block, in memory that outlives the writer. */
struct witness {
	uint64_t written[BLOCKS], flushed[BLOCKS];
	uint64_t flushes;
};

static void stamp(uint8_t *p, uint64_t block, uint64_t generation)
{
	for (unsigned n = 0; n < BLOCK; n += 16) {
		memcpy(p + n, &block, 8);
		memcpy(p + n + 8, &generation, 8);
	}
}

/* The generation that a block holds; UINT64_MAX: a mixture, or another's. */
static uint64_t stamp_of(const uint8_t *p, uint64_t block)
{
	static const uint8_t zero[BLOCK];
	uint8_t want[BLOCK];
	uint64_t generation;

	if (memcmp(p, zero, BLOCK) == 0)
		return 0;
	memcpy(&generation, p + 8, 8);
	stamp(want, block, generation);
	return memcmp(p, want, BLOCK) == 0 ? generation : UINT64_MAX;
}

static void write_until_killed(const char *path, struct witness *w, uint64_t generation)
{
	static uint64_t ended[BLOCKS], now[AT_ONCE];
	struct block *b = open_disk((struct block_config){.path = path});

	if (!b)
		_exit(1);
	memcpy(ended, w->written, sizeof ended);
	for (;; generation++) {
		for (unsigned n = 0; n < AT_ONCE; n++) {
			struct job *j = &jobs[n];
			bool again;

			do {
				now[n] = random64() % BLOCKS;
				again = false;
				for (unsigned i = 0; i < n; i++)
					again |= now[i] == now[n];
			} while (again);
			stamp(j->data, now[n], generation);
			w->written[now[n]] = generation;
			j->wait = (struct wait){0};
			j->iov[0] = (struct iovec){j->data, BLOCK};
			j->r = (struct block_request){.op = BLOCK_WRITE, .offset = now[n] * BLOCK, .len = BLOCK,
						      .iov = j->iov, .iov_count = 1, .done = wait_done,
						      .opaque = &j->wait};
			block_submit(b, &j->r);
		}
		block_drain(b);
		for (unsigned n = 0; n < AT_ONCE; n++)
			ended[now[n]] = generation;
		if (random64() % 5 == 0) {
			if (run(b, BLOCK_FLUSH, 0, NULL, 0) != 0)
				_exit(1);
			memcpy(w->flushed, ended, sizeof ended);
			__atomic_add_fetch(&w->flushes, 1, __ATOMIC_RELEASE);
		}
	}
}

static void test_kills(const char *options, unsigned kills)
{
	struct witness *w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *path = path_of("killed.qcow2");
	uint64_t generation = 1, flushed = 0;

	CHECK(command("qemu-img create -q -f qcow2 -o %s %s %u", options, path, SIZE) == 0);
	for (unsigned n = 0; n < kills; n++) {
		unsigned lost = 0, torn = 0;
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			for (unsigned i = 0; i < n; i++)
				random64();
			write_until_killed(path, w, generation);
		}
		/* However slow the host is, something was flushed. */
		uint64_t before = __atomic_load_n(&w->flushes, __ATOMIC_ACQUIRE);
		for (unsigned i = 0; i < 10000 && __atomic_load_n(&w->flushes, __ATOMIC_ACQUIRE) == before; i++)
			usleep(1000);
		usleep(random64() % 60000);
		kill(pid, SIGKILL);
		CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
		if (!is_sound(path, true)) {
			failed++;
			break;
		}
		struct block *b = open_disk((struct block_config){.path = path});
		CHECK(b && run(b, BLOCK_READ, 0, buf, SIZE) == 0);
		for (uint64_t block = 0; block < BLOCKS; block++) {
			uint64_t g = stamp_of(buf + block * BLOCK, block);

			torn += g == UINT64_MAX;
			lost += g < w->flushed[block] || (g != UINT64_MAX && g > w->written[block]);
			flushed += w->flushed[block] != 0;
			w->written[block] = w->flushed[block] = g == UINT64_MAX ? 0 : g;
			generation = generation > w->written[block] ? generation : w->written[block] + 1;
		}
		CHECK(lost == 0);
		CHECK(torn == 0); /* a block was written by one write of the host */
		block_close(b);
	}
	CHECK(flushed > 0); /* or nothing was seen */
	munmap(w, sizeof *w);
	unlink(path);
}

/* ---- hostile images ---- */

/* Bytes of the tables are garbage: opened, read and written, nothing may go wrong in this process. */
static void test_damaged(unsigned count)
{
	const char *path = path_of("damaged.qcow2"), *good = path_of("good.qcow2");

	make_contents(path_of("contents"));
	CHECK(command("qemu-img convert -c -f raw -O qcow2 -o cluster_size=4096 %s %s", path_of("contents"), good) == 0);
	for (unsigned n = 0; n < count; n++) {
		command("cp %s %s", good, path);
		int fd = open(path, O_RDWR);
		for (unsigned i = 0; i < 1 + random64() % 20; i++) {
			uint64_t v = random64() % 3 ? random64() % SIZE : random64();
			off_t at = (off_t)(random64() % 2 ? random64() % 112 : random64() % 65536);

			v = random64() % 2 ? __builtin_bswap64(v) : v;
			if (pwrite(fd, &v, random64() % 8 + 1, at) < 0)
				perror("pwrite");
		}
		close(fd);
		struct block *b = block_open(loop, &(struct block_config){.path = path, .format = "qcow2"}, error, sizeof error);
		if (b && block_size(b) >= SIZE) {
			for (unsigned i = 0; i < 40; i++) {
				uint64_t offset = random64() % SECTORS * 512;
				uint64_t len = random64() % 64 * 512 + 512;

				run(b, (enum block_op)(random64() % 5), offset, buf, len < SIZE - offset ? len : SIZE - offset);
			}
		}
		block_close(b);
	}
	passed++; /* still alive */
	unlink(path);
	unlink(good);
	unlink(path_of("contents"));
}

static void test_refused(void)
{
	const char *path = path_of("refused.qcow2");

	/* qemu-img measures the processor first, and gives up when that does not go as it likes ("accurate CPU usage") */
	CHECK(command("for try in 1 2 3 4 5 6 7 8; do qemu-img create -q -f qcow2 --object secret,id=s,data=x "
		      "-o encrypt.format=luks,encrypt.key-secret=s %s 1M 2>/dev/null && exit 0; done; exit 1", path) == 0);
	CHECK(!block_open(loop, &(struct block_config){.path = path}, error, sizeof error));
	CHECK(strstr(error, "encrypted") != NULL);
	unlink(path);
	CHECK(command("qemu-img create -q -f qcow2 -o data_file=%s %s 1M", path_of("data"), path) == 0);
	CHECK(!block_open(loop, &(struct block_config){.path = path}, error, sizeof error));
	CHECK(strstr(error, "external") != NULL);
	unlink(path);
	unlink(path_of("data"));
}

/* ---- over the network ---- */

/* The same work on a server's disk: qemu-nbd's. */
static void test_nbd(void)
{
	const char *path = path_of("served"), *socket = path_of("socket");
	char uri[200];

	make_file(path, SIZE);
	CHECK(command("qemu-nbd --fork --persistent -f raw -e 8 -k %s --pid-file=%s %s", socket, path_of("pid"), path) == 0);
	snprintf(uri, sizeof uri, "nbd+unix:///?socket=%s", socket);
	struct block *b = open_disk((struct block_config){.path = uri, .format = "raw"});
	CHECK(b && block_size(b) == SIZE);
	memset(mirror, 0, sizeof mirror);
	if (b) {
		CHECK(work(b, 60));
		CHECK(is_mirror(b));
		CHECK(run(b, BLOCK_FLUSH, 0, NULL, 0) == 0);
		/* The server goes: errors, not a hang; it comes back: so does the disk. */
		CHECK(command("kill $(cat %s) && sleep 0.5", path_of("pid")) == 0);
		CHECK(run(b, BLOCK_READ, 0, buf, 4096) < 0);
		CHECK(command("qemu-nbd --fork --persistent -f raw -e 8 -k %s --pid-file=%s %s", socket, path_of("pid"),
			      path) == 0);
		bool back = false;
		for (unsigned n = 0; n < 10 && !back; n++)
			back = run(b, BLOCK_READ, 0, buf, 4096) == 0;
		CHECK(back && memcmp(buf, mirror, 4096) == 0);
		block_close(b);
	}
	CHECK(command("kill $(cat %s)", path_of("pid")) == 0);
	CHECK(!block_open(loop, &(struct block_config){.path = "nbd+unix:///?socket=/nonexistent"}, error, sizeof error));
	unlink(path);
	unlink(socket);
	unlink(path_of("pid"));
}

int main(void)
{
	const char *kills = getenv("QCOW2_KILLS"), *seed = getenv("QCOW2_SEED");

	for (unsigned n = seed ? (unsigned)atoi(seed) : 0; n; n--)
		random64();
	fixture_start();
	test_options("compat=1.1", SIZE, 100);
	test_options("compat=0.10", SIZE, 60);
	test_options("cluster_size=512", SIZE, 60);
	test_options("cluster_size=2M", SIZE, 40);
	test_options("refcount_bits=1", SIZE, 60);
	test_options("refcount_bits=64,cluster_size=1024", SIZE, 60);
	test_options("refcount_bits=4,cluster_size=4096", SIZE - 1536, 60);
	test_options("extended_l2=on,cluster_size=128k", SIZE, 60);
	test_options("preallocation=metadata", SIZE, 60);
	test_options("lazy_refcounts=on", SIZE, 60);
	test_compressed("compression_type=zlib");
	test_compressed("compression_type=zstd,cluster_size=16k");
	test_backing("compat=1.1", SIZE);
	test_backing("compat=0.10,cluster_size=8k", SIZE / 2);
	test_backing("extended_l2=on", SIZE);
	test_snapshots("compat=1.1");
	test_snapshots("cluster_size=512,refcount_bits=8");
	test_kills("cluster_size=64k", kills ? (unsigned)atoi(kills) : 10);
	test_kills("cluster_size=1k", kills ? (unsigned)atoi(kills) : 10);
	test_damaged(100);
	test_refused();
	test_nbd();
	unlink(path_of("mirror"));
	unlink(path_of("output"));
	return fixture_stop();
}
