/*
 * Raw disks: every operation, ranges that are refused, many requests at once, locks between openers, cache modes,
 * overlays, and the guard of disks whose format was guessed.
 */
#include "block_fixture.h"

#define SIZE (1u << 20)

static uint8_t buf[SIZE], other[SIZE];

static bool all(const uint8_t *p, uint8_t byte, size_t len)
{
	for (size_t n = 0; n < len; n++)
		if (p[n] != byte)
			return false;
	return true;
}

static void fill_random(uint8_t *p, size_t len)
{
	for (size_t n = 0; n < len; n++)
		p[n] = (uint8_t)random64();
}

static void test_operations(enum block_cache cache, enum block_aio aio)
{
	const char *path = path_of("disk");

	make_file(path, SIZE);
	struct block *b = open_disk((struct block_config){.path = path, .format = "raw", .cache = cache, .aio = aio});
	CHECK(b != NULL);
	if (!b)
		return;
	CHECK(block_size(b) == SIZE);
	CHECK(!block_readonly(b));
	CHECK(block_can_discard(b));
	CHECK(block_write_cache(b) == (cache != BLOCK_WRITETHROUGH));
	fill_random(buf, SIZE);
	CHECK(run(b, BLOCK_WRITE, 0, buf, SIZE) == 0);
	CHECK(run(b, BLOCK_READ, 0, other, SIZE) == 0);
	CHECK(memcmp(buf, other, SIZE) == 0);
	/* From memory that is not aligned, to sectors that are not blocks. */
	CHECK(run(b, BLOCK_WRITE, 512, buf + 4097, 1536) == 0);
	CHECK(run(b, BLOCK_READ, 0, other + 3, 8192) == 0);
	CHECK(memcmp(other + 3, buf, 512) == 0);
	CHECK(memcmp(other + 3 + 512, buf + 4097, 1536) == 0);
	CHECK(memcmp(other + 3 + 2048, buf + 2048, 8192 - 2048) == 0);
	struct block_request zero = {.op = BLOCK_WRITE_ZEROES, .offset = 1024, .len = 65536, .fua = true};
	CHECK(run_request(b, &zero) == 0);
	CHECK(run(b, BLOCK_READ, 0, other, SIZE) == 0);
	CHECK(all(other + 1024, 0, 65536));
	CHECK(memcmp(other + 1024 + 65536, buf + 1024 + 65536, SIZE - 1024 - 65536) == 0);
	zero = (struct block_request){.op = BLOCK_WRITE_ZEROES, .offset = 131072, .len = 131072, .may_unmap = true};
	CHECK(run_request(b, &zero) == 0);
	CHECK(run(b, BLOCK_READ, 131072, other, 131072) == 0);
	CHECK(all(other, 0, 131072));
	CHECK(run(b, BLOCK_DISCARD, 524288, NULL, 4096) == 0);
	CHECK(run(b, BLOCK_FLUSH, 0, NULL, 0) == 0);
	block_close(b);
	unlink(path);
}

static void test_ranges(void)
{
	const char *path = path_of("ranges");

	make_file(path, SIZE);
	struct block *b = open_disk((struct block_config){.path = path, .format = "raw"});
	CHECK(run(b, BLOCK_READ, SIZE, buf, 512) == -EINVAL);
	CHECK(run(b, BLOCK_READ, SIZE - 512, buf, 1024) == -EINVAL);
	CHECK(run(b, BLOCK_READ, UINT64_MAX - 511, buf, 1024) == -EINVAL);
	CHECK(run(b, BLOCK_READ, 0, buf, 0) == -EINVAL);
	CHECK(run(b, BLOCK_READ, 1, buf, 512) == -EINVAL);
	CHECK(run(b, BLOCK_WRITE, 0, buf, 511) == -EINVAL);
	CHECK(run(b, BLOCK_WRITE, 0, NULL, 512) == -EINVAL); /* no memory for it */
	CHECK(run(b, BLOCK_WRITE_ZEROES, SIZE, NULL, 512) == -EINVAL);
	CHECK(run(b, BLOCK_DISCARD, 512, NULL, UINT64_MAX - 511) == -EINVAL);
	CHECK(run(b, BLOCK_READ, SIZE - 512, buf, 512) == 0);
	block_close(b);
	/* A last sector that is half there is whole for the guest. */
	make_file(path, 1000);
	b = open_disk((struct block_config){.path = path, .format = "raw"});
	CHECK(block_size(b) == 1024);
	memset(buf, 1, 1024);
	CHECK(run(b, BLOCK_READ, 0, buf, 1024) == 0);
	CHECK(all(buf, 0, 1024));
	memset(buf, 7, 512);
	CHECK(run(b, BLOCK_WRITE, 512, buf, 512) == 0);
	CHECK(run(b, BLOCK_READ, 512, other, 512) == 0);
	CHECK(all(other, 7, 512));
	block_close(b);
	b = open_disk((struct block_config){.path = path, .format = "raw", .readonly = true});
	CHECK(block_readonly(b));
	CHECK(!block_can_discard(b));
	CHECK(run(b, BLOCK_WRITE, 0, buf, 512) == -EROFS);
	CHECK(run(b, BLOCK_DISCARD, 0, NULL, 512) == -EROFS);
	CHECK(run(b, BLOCK_READ, 0, buf, 512) == 0);
	CHECK(run(b, BLOCK_FLUSH, 0, NULL, 0) == 0);
	block_close(b);
	unlink(path);
}

/* Many at once, in scattered memory; and a drain that must call all of them. */
static void test_many(enum block_aio aio)
{
	enum { COUNT = 256, LEN = 4096 };
	static struct block_request r[COUNT];
	static struct iovec v[COUNT][3];
	static struct wait w[COUNT];
	const char *path = path_of("many");
	unsigned ended = 0;

	make_file(path, SIZE);
	struct block *b = open_disk((struct block_config){.path = path, .format = "raw", .aio = aio});
	fill_random(buf, SIZE);
	for (int pass = 0; pass < 2; pass++) {
		memset(other, 0, SIZE);
		for (unsigned n = 0; n < COUNT; n++) {
			uint8_t *p = (pass ? other : buf) + n * LEN;

			v[n][0] = (struct iovec){p, 100};
			v[n][1] = (struct iovec){p + 100, 0};
			v[n][2] = (struct iovec){p + 100, LEN - 100};
			w[n] = (struct wait){0};
			r[n] = (struct block_request){.op = pass ? BLOCK_READ : BLOCK_WRITE, .offset = n * LEN, .len = LEN,
						      .iov = v[n], .iov_count = 3, .done = wait_done, .opaque = &w[n]};
			block_submit(b, &r[n]);
		}
		block_drain(b);
		for (unsigned n = 0; n < COUNT; n++)
			ended += w[n].ended && w[n].result == 0;
	}
	CHECK(ended == 2 * COUNT);
	CHECK(memcmp(buf, other, SIZE) == 0);
	block_close(b);
	unlink(path);
}

static bool opens(struct block_config config)
{
	struct block *b = block_open(loop, &config, error, sizeof error);

	block_close(b);
	return b != NULL;
}

static void test_locks(void)
{
	const char *path = path_of("locks");
	struct block_config writer = {.path = path, .format = "raw"};
	struct block_config reader = {.path = path, .format = "raw", .readonly = true};
	struct block_config snapshot = {.path = path, .format = "raw", .snapshot = true};

	make_file(path, SIZE);
	struct block *b = open_disk(writer);
	CHECK(!opens(writer));
	CHECK(strstr(error, "in use") != NULL);
	CHECK(!opens(reader));
	CHECK(!opens(snapshot));
	block_close(b);
	b = open_disk(reader);
	CHECK(opens(reader));
	CHECK(opens(snapshot));
	CHECK(!opens(writer));
	block_close(b);
	CHECK(opens(writer));
	CHECK(!opens((struct block_config){.path = path_of("nothing"), .format = "raw"}));
	CHECK(!opens((struct block_config){.path = directory, .format = "raw"}));
	CHECK(!opens((struct block_config){.path = "/dev/null", .format = "raw"}));
	CHECK(!opens((struct block_config){.path = path, .format = "vmdk"}));
	unlink(path);
}

static void test_snapshot(void)
{
	const char *path = path_of("base");

	make_file(path, SIZE);
	struct block *b = open_disk((struct block_config){.path = path, .format = "raw"});
	fill_random(buf, SIZE);
	CHECK(run(b, BLOCK_WRITE, 0, buf, SIZE) == 0);
	block_close(b);

	b = open_disk((struct block_config){.path = path, .snapshot = true});
	CHECK(!block_readonly(b));
	for (unsigned n = 0; n < 500; n++) {
		uint64_t offset = random64() % (SIZE / 512) * 512, len = (random64() % 40 + 1) * 512;

		if (len > SIZE - offset)
			len = SIZE - offset;
		if (n % 3 == 0) {
			fill_random(buf + offset, len);
			CHECK(run(b, BLOCK_WRITE, offset, buf + offset, len) == 0);
		} else if (n % 3 == 1) {
			memset(buf + offset, 0, len);
			CHECK(run(b, n % 2 ? BLOCK_WRITE_ZEROES : BLOCK_DISCARD, offset, NULL, len) == 0);
		} else {
			CHECK(run(b, BLOCK_READ, offset, other, len) == 0);
			CHECK(memcmp(other, buf + offset, len) == 0);
		}
	}
	CHECK(run(b, BLOCK_READ, 0, other, SIZE) == 0);
	CHECK(memcmp(other, buf, SIZE) == 0);
	CHECK(run(b, BLOCK_FLUSH, 0, NULL, 0) == 0);
	block_close(b);
	/* The base is as it was. */
	b = open_disk((struct block_config){.path = path, .format = "raw", .readonly = true});
	CHECK(run(b, BLOCK_READ, 0, other, SIZE) == 0);
	CHECK(memcmp(other, buf, SIZE) != 0);
	block_close(b);
	unlink(path);
}

static void test_guard(void)
{
	const char *path = path_of("guessed");

	make_file(path, SIZE);
	struct block *b = open_disk((struct block_config){.path = path});
	fill_random(buf, SIZE);
	memcpy(buf, "QFI\xfb", 4);
	CHECK(run(b, BLOCK_WRITE, 0, buf, 4096) == -EPERM);
	CHECK(run(b, BLOCK_WRITE, 0, buf, 512) == -EPERM);
	CHECK(run(b, BLOCK_WRITE, 512, buf, 512) == 0);
	buf[0] = 'q';
	CHECK(run(b, BLOCK_WRITE, 0, buf, 512) == 0);
	CHECK(run(b, BLOCK_WRITE, 0, buf, 8192) == 0);
	CHECK(run(b, BLOCK_READ, 0, other, 8192) == 0);
	CHECK(memcmp(other, buf, 8192) == 0);
	block_close(b);
	/* Who says raw, means it. */
	b = open_disk((struct block_config){.path = path, .format = "raw"});
	memcpy(buf, "QFI\xfb", 4);
	CHECK(run(b, BLOCK_WRITE, 0, buf, 4096) == 0);
	block_close(b);
	unlink(path);
}

/* Memory behind what was asked for is not touched. */
static void test_more_memory(enum block_aio aio)
{
	const char *path = path_of("more");
	uint8_t data[1024];
	const struct iovec v = {.iov_base = data, .iov_len = sizeof data};

	make_file(path, SIZE);
	struct block *b = open_disk((struct block_config){.path = path, .format = "raw", .aio = aio});
	memset(data, 0x55, sizeof data);
	struct block_request r = {.op = BLOCK_READ, .offset = 4096, .len = 512, .iov = &v, .iov_count = 1};
	CHECK_EQ(run_request(b, &r), 0);
	CHECK(data[511] == 0 && data[512] == 0x55 && data[1023] == 0x55);
	block_close(b);
	unlink(path);
}

/* ---- a drain on another thread ---- */

#define LONG_READ (128u << 20)
static struct block *drained;
static bool drain_begun, drain_over; /* under the lock */

static void *drain_main(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&big_lock);
	drain_begun = true;
	block_drain(drained);
	drain_over = true;
	pthread_mutex_unlock(&big_lock);
	return NULL;
}

/* A vCPU that resets a device waits; the loop's thread gets the lock meanwhile. `turning`: it goes on to turn the loop, or
 * it does not, as at a machine's end. */
static void test_drain(enum block_aio aio, bool turning)
{
	const char *path = path_of("drained");
	struct block_request r[4];
	struct wait w[4] = {0};
	unsigned turns_meanwhile = 0, ended = 0;
	pthread_t thread;

	make_file(path, LONG_READ);
	drained = open_disk((struct block_config){.path = path, .format = "raw", .aio = aio});
	void *data = malloc(LONG_READ);
	const struct iovec v = {.iov_base = data, .iov_len = LONG_READ};
	drain_begun = drain_over = false;
	CHECK(run(drained, BLOCK_READ, 0, data, 4096) == 0); /* this thread is the loop's */
	for (unsigned n = 0; n < 4; n++) {
		r[n] = (struct block_request){.op = BLOCK_READ, .len = LONG_READ, .iov = &v, .iov_count = 1, .done = wait_done,
					      .opaque = &w[n]};
		block_submit(drained, &r[n]);
	}
	pthread_create(&thread, NULL, drain_main, NULL);
	while (!drain_over) {
		turns_meanwhile += drain_begun;
		if (turning && drain_begun)
			loop_wake(loop), loop_turn(loop);
		pthread_mutex_unlock(&big_lock);
		usleep(1000);
		pthread_mutex_lock(&big_lock);
	}
	pthread_join(thread, NULL);
	for (unsigned n = 0; n < 4; n++)
		ended += w[n].ended && w[n].result == 0;
	CHECK_EQ(ended, 4);
	CHECK(turns_meanwhile > 0);
	block_close(drained);
	free(data);
	unlink(path);
}

int main(void)
{
	fixture_start();
	for (enum block_cache cache = BLOCK_WRITEBACK; cache <= BLOCK_UNSAFE; cache++) {
		test_operations(cache, BLOCK_AIO_BEST);
		test_operations(cache, BLOCK_AIO_THREADS);
	}
	test_ranges();
	test_many(BLOCK_AIO_BEST);
	test_many(BLOCK_AIO_THREADS);
	test_locks();
	test_snapshot();
	test_guard();
	test_more_memory(BLOCK_AIO_BEST);
	test_more_memory(BLOCK_AIO_THREADS);
	for (unsigned n = 0; n < 4; n++)
		test_drain(n & 1 ? BLOCK_AIO_THREADS : BLOCK_AIO_BEST, n & 2);
	return fixture_stop();
}
