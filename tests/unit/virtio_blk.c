/*
 * The virtio disk under a driver, old and new, split and packed: every request, requests that are refused, what lasts
 * without a flush, resets while requests go on.
 */
#include "virtio_driver.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "block/block.h"
#include "virtio/blk.h"

#define DISK (1u << 20)
#define F_RO (1ull << 5)
#define F_FLUSH (1ull << 9)
#define F_CONFIG_WCE (1ull << 11)
#define F_MQ (1ull << 12)
#define F_DISCARD (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2, NOT_BACK = 0x77 };

static struct block *block;
static struct virtio_blk *blk;
static struct vd v;
static char path[] = "/tmp/ringside-blk-XXXXXX", error[256];
static uint64_t header, status, data;

/* In libc's place: the file's data reaches the disk. */
static unsigned synced;
int fdatasync(int fd)
{
	__atomic_fetch_add(&synced, 1, __ATOMIC_SEQ_CST);
	return (int)syscall(SYS_fdatasync, fd);
}

static void start(bool legacy, bool readonly, uint64_t features)
{
	int fd = mkstemp(path);

	vd_start();
	if (fd < 0 || ftruncate(fd, DISK) < 0)
		exit(1);
	close(fd);
	block = block_open(loop, &(struct block_config){.path = path, .format = "raw", .readonly = readonly}, error,
			   sizeof error);
	unlink(path);
	memcpy(path + sizeof path - 7, "XXXXXX", 6);
	const struct virtio_blk_config config = {
		.pci = pci, .devfn = -1, .loop = loop, .block = block, .serial = "a serial number", .queues = 2};
	if (!block || !(blk = virtio_blk_new(&config))) {
		printf("not ok: %s\n", error);
		exit(1);
	}
	vd_probe(&v, 0, legacy, true);
	CHECK(vd_negotiate(&v, features | (legacy ? 0 : VIRTIO_F_VERSION_1)));
	vd_queue_up(&v, 0, 0);
	vd_queue_up(&v, 1, 0);
	vd_driver_ok(&v);
	header = vd_alloc(16, 16);
	status = vd_alloc(1, 1);
	data = vd_alloc(DISK, 4096);
}

static void stop(void)
{
	virtio_blk_free(blk);
	block_close(block);
	vd_stop();
}

static void put_header(uint32_t type, uint64_t sector)
{
	vd_put32(header, type);
	vd_put32(header + 4, 0);
	vd_put64(header + 8, sector);
	*vd_ram(status) = NOT_BACK;
}

static int request(unsigned queue, uint32_t type, uint64_t sector, uint64_t gpa, uint32_t len)
{
	bool in = type == IN || type == GET_ID;
	struct vd_segment s[3] = {{header, 16}, {gpa, len}, {status, 1}};

	put_header(type, sector);
	if (!len)
		s[1] = s[2];
	uint16_t id = vd_add(&v, queue, s, len && !in ? 2 : 1, len && in ? 2 : 1);
	vd_kick(&v, queue);
	CHECK_EQ(vd_wait(&v, queue, id), in ? len + 1 : 1);
	return *vd_ram(status);
}

static void test_requests(bool legacy, uint64_t features)
{
	start(legacy, false, features);
	CHECK_EQ(vd_config(&v, 0, 4), DISK / 512);
	CHECK_EQ(vd_config(&v, 20, 4), 512);
	CHECK_EQ(vd_config(&v, 34, 2), 2);
	for (unsigned n = 0; n < 8192; n++)
		*vd_ram(data + n) = (uint8_t)(n * 7 + n / 512);
	CHECK_EQ(request(0, OUT, 16, data, 8192), OK);
	CHECK_EQ(request(1, IN, 16, data + 65536, 8192), OK);
	CHECK(memcmp(vd_ram(data), vd_ram(data + 65536), 8192) == 0);
	CHECK_EQ(request(0, FLUSH, 0, 0, 0), OK);
	CHECK_EQ(vd_messages[1], 2);
	CHECK_EQ(vd_messages[2], 1);
	CHECK_EQ(request(0, GET_ID, 0, data, 20), OK);
	CHECK(memcmp(vd_ram(data), "a serial number\0\0\0\0\0", 20) == 0);
	/* Past the end, not whole sectors, no such request. */
	CHECK_EQ(request(0, IN, DISK / 512, data, 512), IOERR);
	CHECK_EQ(request(0, IN, DISK / 512 - 1, data, 1024), IOERR);
	CHECK_EQ(request(0, IN, UINT64_MAX, data, 512), IOERR);
	CHECK_EQ(request(0, OUT, 0, data, 513), IOERR);
	CHECK_EQ(request(0, 99, 0, data, 512), UNSUPP);
	/* Ranges. */
	vd_put64(data, 17);
	vd_put32(data + 8, 2);
	vd_put32(data + 12, 1);
	CHECK_EQ(request(0, DISCARD, 0, data, 16), UNSUPP); /* a flag that it has not */
	CHECK_EQ(request(0, WRITE_ZEROES, 0, data, 16), OK);
	CHECK_EQ(request(0, WRITE_ZEROES, 0, data, 15), IOERR);
	vd_put32(data + 12, 0);
	vd_put64(data + 16, 20);
	vd_put32(data + 24, 1);
	vd_put32(data + 28, 0);
	CHECK_EQ(request(0, DISCARD, 0, data, 32), OK);
	CHECK_EQ(request(0, IN, 16, data + 131072, 8192), OK);
	memset(vd_ram(data + 65536 + 512), 0, 1024);
	CHECK(memcmp(vd_ram(data + 65536), vd_ram(data + 131072), 2048) == 0);
	vd_put64(data + 16, DISK / 512);
	CHECK_EQ(request(0, DISCARD, 0, data, 32), IOERR);
	stop();
}

static void test_readonly(void)
{
	start(false, true, F_RO);
	CHECK(vd_offered(&v) & F_RO);
	CHECK(!(vd_offered(&v) & (F_DISCARD | F_WRITE_ZEROES | F_FLUSH)));
	CHECK_EQ(request(0, OUT, 0, data, 512), IOERR);
	CHECK_EQ(request(0, WRITE_ZEROES, 0, data, 16), IOERR);
	CHECK_EQ(request(0, IN, 0, data, 512), OK);
	stop();
}

static void test_write_cache(void)
{
	start(false, false, F_FLUSH | F_CONFIG_WCE);
	CHECK_EQ(vd_config(&v, 32, 1), 1);
	vd_config_write(&v, 32, 1, 0);
	CHECK_EQ(vd_config(&v, 32, 1), 0);
	/* Without a cache what has been written lasts, zeroes too. */
	vd_put64(data, 8);
	vd_put32(data + 8, 8);
	vd_put32(data + 12, 0);
	synced = 0;
	CHECK_EQ(request(0, OUT, 0, data, 512), OK);
	CHECK_EQ(synced, 1);
	CHECK_EQ(request(0, WRITE_ZEROES, 0, data, 16), OK);
	CHECK_EQ(synced, 2);
	vd_config_write(&v, 32, 1, 1);
	CHECK_EQ(request(0, WRITE_ZEROES, 0, data, 16), OK);
	CHECK_EQ(synced, 2);
	CHECK(vd_negotiate(&v, VIRTIO_F_VERSION_1)); /* cannot flush, so needs not to */
	vd_driver_ok(&v);
	CHECK_EQ(vd_config(&v, 32, 1), 0);
	stop();
}

/* A reset while much goes on: nothing comes back, and the device works again. */
static void test_reset(void)
{
	start(false, false, F_MQ);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned n = 0; n < 40; n++) {
			struct vd_segment s[3] = {{header, 16}, {data + n * 8192, 8192}, {status, 1}};

			put_header(n % 2 ? IN : OUT, n * 16);
			vd_add(&v, 0, s, n % 2 ? 1 : 2, n % 2 ? 2 : 1);
			vd_kick(&v, 0);
		}
		if (round % 2)
			vd_turn();
		vd_free = data + DISK;
		CHECK(vd_negotiate(&v, VIRTIO_F_VERSION_1 | (round % 3 ? 0 : VIRTIO_F_RING_PACKED)));
		vd_queue_up(&v, 0, 0);
		vd_driver_ok(&v);
		CHECK_EQ(request(0, IN, 0, data, 4096), OK);
	}
	stop();
}

static void test_broken(void)
{
	struct vd_segment s[2] = {{0, 8}, {0, 1}};

	start(false, false, 0);
	s[0].gpa = header;
	s[1].gpa = status;
	vd_add(&v, 0, s, 1, 1); /* half a header */
	vd_kick(&v, 0);
	vd_turn();
	CHECK(vd_status(&v) & VD_NEEDS_RESET);
	stop();
}

int main(void)
{
	test_requests(false, F_MQ | F_FLUSH | F_DISCARD | F_WRITE_ZEROES);
	test_requests(false, F_MQ | F_FLUSH | F_DISCARD | F_WRITE_ZEROES | VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX);
	test_requests(true, F_MQ | F_FLUSH | F_DISCARD | F_WRITE_ZEROES);
	test_readonly();
	test_write_cache();
	test_reset();
	test_broken();
	return summary();
}
