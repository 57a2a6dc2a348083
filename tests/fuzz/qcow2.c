/*
 * Malformed qcow2 images: a small good one, with whatever the input says written over its header and tables, is opened,
 * read, written, discarded and flushed.
 */
#include "driver.h"

#include <pthread.h>
#include <unistd.h>

#include "block/block.h"
#include "util/loop.h"

#define CLUSTER 4096u
#define SNAPSHOTS 512
#define SIZE (1u << 20)
#define TABLES (8 * CLUSTER)

static uint8_t image[TABLES], buffer[65536];

static void put(uint64_t at, uint64_t v, unsigned bytes)
{
	while (bytes--)
		image[at++] = (uint8_t)(v >> 8 * bytes);
}

/* Clusters: header with the table of snapshots behind it, table of reference counts, a block of them, level 1, level 2,
 * three of data (one compressed). */
static void make_image(bool version_3)
{
	memset(image, 0, sizeof image);
	put(0, 0x514649fb, 4);
	put(4, version_3 ? 3 : 2, 4);
	put(20, 12, 4);
	put(24, SIZE, 8);
	put(36, 1, 4);
	put(40, 3 * CLUSTER, 8);
	put(48, CLUSTER, 8);
	put(56, 1, 4);
	put(60, 1, 4);
	put(64, SNAPSHOTS, 8);
	put(SNAPSHOTS, 3 * CLUSTER, 8);
	put(SNAPSHOTS + 8, 1, 4);
	put(SNAPSHOTS + 12, 1, 2); /* an ID of one letter, no name */
	put(SNAPSHOTS + 36, 16, 4);
	put(SNAPSHOTS + 48, SIZE, 8);
	put(SNAPSHOTS + 56, '1', 1);
	put(96, 4, 4);
	put(100, 104, 4);
	put(CLUSTER, 2 * CLUSTER, 8);
	for (unsigned n = 0; n < 8; n++)
		put(2 * CLUSTER + 2 * n, 1, 2);
	put(3 * CLUSTER, 4 * CLUSTER | 1ull << 63, 8);
	put(4 * CLUSTER, 5 * CLUSTER | 1ull << 63, 8);
	put(4 * CLUSTER + 8, 1, 8);
	put(4 * CLUSTER + 16, 6 * CLUSTER | 1ull << 62, 8);
	put(4 * CLUSTER + 24, 7 * CLUSTER, 8);
}

static void damage(struct fuzz_input *in)
{
	for (unsigned n = (unsigned)fuzz_take(in, 1) % 24; n && in->size; n--) {
		uint64_t at = fuzz_take(in, 2), bytes = fuzz_take(in, 1) % 8 + 1;
		unsigned part = (unsigned)fuzz_take(in, 1) % 6;

		at = part == 5 ? SNAPSHOTS + at % 64 : part ? part * CLUSTER + at % 64 : at % 112;
		put(at, fuzz_take(in, (unsigned)bytes), (unsigned)bytes);
	}
}

static void done(struct block_request *r, int result)
{
	(void)result;
	free(r);
}

static void submit(struct block *b, struct fuzz_input *in)
{
	struct block_request *r = malloc(sizeof *r);
	static const struct iovec v = {buffer, sizeof buffer};

	if (!r)
		abort();
	*r = (struct block_request){
		.op = (enum block_op)(fuzz_take(in, 1) % 5),
		.offset = fuzz_take(in, 2) % (SIZE / 512 + 8) * 512,
		.len = (fuzz_take(in, 1) % 128 + 1) * 512,
		.iov = &v,
		.iov_count = 1,
		.may_unmap = fuzz_take(in, 1) % 2,
		.done = done,
	};
	block_submit(b, r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct fuzz_input in = {data, size};
	char path[] = "/tmp/ringside-qcow2-XXXXXX", error[512];
	struct loop *loop = loop_new(&lock);
	int fd = mkstemp(path);

	make_image(fuzz_take(&in, 1) % 4);
	damage(&in);
	if (!loop || fd < 0 || write(fd, image, sizeof image) != sizeof image)
		abort();
	close(fd);
	pthread_mutex_lock(&lock);
	struct block_config config = {.path = path, .format = "qcow2", .aio = BLOCK_AIO_THREADS};
	if (fuzz_take(&in, 1) % 4 == 0)
		config.readonly = true, config.internal = "1";
	struct block *b = block_open(loop, &config, error, sizeof error);
	if (b) {
		for (unsigned n = 0; n < 40 && in.size; n++) {
			submit(b, &in);
			if (fuzz_take(&in, 1) % 4 == 0)
				block_drain(b);
		}
		block_close(b);
	}
	pthread_mutex_unlock(&lock);
	loop_free(loop);
	unlink(path);
	return 0;
}
