/*
 * The virtio SCSI controller under a driver: a disk's and a CD-ROM drive's commands, sense data, residuals, targets that
 * are not there, task management.
 */
#include "virtio_driver.h"

#include <unistd.h>

#include "block/block.h"
#include "virtio/scsi.h"

#define DISK (4u << 20)
#define SENSE 96u
#define ANSWER (12u + SENSE)
#define HEAD (19u + 32u)

static struct block *block[2];
static struct virtio_scsi *scsi;
static struct vd v;
static char error[256];
static uint64_t head, answer, data;

static struct block *open_disk(bool readonly)
{
	char path[] = "/tmp/ringside-scsi-XXXXXX";
	int fd = mkstemp(path);

	if (fd < 0 || ftruncate(fd, DISK) < 0)
		exit(1);
	close(fd);
	struct block *b = block_open(loop, &(struct block_config){.path = path, .format = "raw", .readonly = readonly},
				     error, sizeof error);
	unlink(path);
	if (!b)
		exit(1);
	return b;
}

static void start(void)
{
	vd_start();
	block[0] = open_disk(false);
	block[1] = open_disk(true);
	const struct virtio_scsi_config config = {
		.pci = pci, .devfn = -1, .loop = loop, .queues = 2, .targets = 2,
		.target = {{block[0], false, "serial-1"}, {block[1], true, NULL}}};
	if (!(scsi = virtio_scsi_new(&config)))
		exit(1);
	vd_probe(&v, 0, false, true);
	CHECK(vd_negotiate(&v, VIRTIO_F_VERSION_1));
	for (unsigned n = 0; n < 4; n++)
		vd_queue_up(&v, n, 0);
	vd_driver_ok(&v);
	head = vd_alloc(64, 16);
	answer = vd_alloc(ANSWER, 16);
	data = vd_alloc(1 << 20, 4096);
}

static void stop(void)
{
	virtio_scsi_free(scsi);
	block_close(block[0]);
	block_close(block[1]);
	vd_stop();
}

/* Sends a command; `out` and `in` bytes of data. Returns the SCSI status, or 0x100 + a response that is not good. */
static unsigned command(unsigned target, unsigned unit, const uint8_t *cdb, unsigned cdb_len, uint32_t out, uint32_t in)
{
	struct vd_segment s[3];
	unsigned n = 0, outs;

	memset(vd_ram(head), 0, HEAD);
	*vd_ram(head) = 1;
	*vd_ram(head + 1) = (uint8_t)target;
	*vd_ram(head + 2) = 0x40;
	*vd_ram(head + 3) = (uint8_t)unit;
	memcpy(vd_ram(head + 19), cdb, cdb_len);
	memset(vd_ram(answer), 0x55, ANSWER);
	s[n++] = (struct vd_segment){head, HEAD};
	if (out)
		s[n++] = (struct vd_segment){data, out};
	outs = n;
	s[n++] = (struct vd_segment){answer, ANSWER};
	if (in)
		s[n++] = (struct vd_segment){data, in};
	uint16_t id = vd_add(&v, 2, s, outs, n - outs);
	vd_kick(&v, 2);
	CHECK(vd_wait(&v, 2, id) >= 0);
	return *vd_ram(answer + 11) ? 0x100u + *vd_ram(answer + 11) : *vd_ram(answer + 10);
}

#define COMMAND(target, out, in, ...) \
	command(target, 0, (const uint8_t[]){__VA_ARGS__}, sizeof (const uint8_t[]){__VA_ARGS__}, out, in)

static uint32_t residual(void) { return vd_get(answer + 4, 4); }
static unsigned sense_key(void) { return vd_get(answer, 4) == 18 ? *vd_ram(answer + 12 + 2) : 0; }
static unsigned sense_code(void) { return *vd_ram(answer + 12 + 12); }

static void test_identity(void)
{
	CHECK_EQ(COMMAND(0, 0, 0, 0x00), 0);
	CHECK_EQ(COMMAND(0, 0, 255, 0x12, 0, 0, 0, 255, 0), 0);
	CHECK_EQ(residual(), 255 - 74);
	CHECK(memcmp(vd_ram(data + 8), "RINGSIDE", 8) == 0);
	CHECK_EQ(COMMAND(0, 0, 255, 0x12, 1, 0x80, 0, 255, 0), 0);
	CHECK(memcmp(vd_ram(data + 4), "serial-1", 8) == 0);
	static const uint8_t pages[] = {0x00, 0x83, 0xb0, 0xb1, 0xb2};
	for (unsigned n = 0; n < sizeof pages; n++) {
		CHECK_EQ(COMMAND(0, 0, 255, 0x12, 1, pages[n], 0, 255, 0), 0);
		CHECK_EQ(*vd_ram(data + 1), pages[n]);
	}
	CHECK_EQ(COMMAND(0, 0, 255, 0x12, 1, 0x99, 0, 255, 0), 2);
	CHECK_EQ(sense_key(), 5);
	CHECK_EQ(COMMAND(0, 0, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
	CHECK_EQ(__builtin_bswap32(vd_get(data, 4)), DISK / 512 - 1);
	CHECK_EQ(COMMAND(0, 0, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32), 0);
	CHECK_EQ(__builtin_bswap32(vd_get(data + 4, 4)), DISK / 512 - 1);
	CHECK_EQ(COMMAND(0, 0, 64, 0x1a, 0, 0x3f, 0, 64), 0);
	CHECK_EQ(*vd_ram(data), 4 + 8 + 20 + 12 - 1);
	CHECK_EQ(COMMAND(0, 0, 16, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16), 0);
	CHECK_EQ(*vd_ram(data + 3), 8);
	/* Nobody there. */
	CHECK_EQ(COMMAND(2, 0, 36, 0x12, 0, 0, 0, 36, 0), 0x103);
	CHECK_EQ(command(0, 1, (const uint8_t[]){0x12, 0, 0, 0, 36, 0}, 6, 0, 36), 0);
	CHECK_EQ(*vd_ram(data), 0x7f);
	CHECK_EQ(command(0, 1, (const uint8_t[]){0x00}, 1, 0, 0), 2);
	CHECK_EQ(sense_code(), 0x25);
}

static void test_data(void)
{
	static uint8_t want[8192];

	for (unsigned n = 0; n < sizeof want; n++)
		want[n] = (uint8_t)(n * 5 + n / 256);
	memcpy(vd_ram(data), want, sizeof want);
	CHECK_EQ(COMMAND(0, 8192, 0, 0x2a, 0x08, 0, 0, 0, 32, 0, 0, 16, 0), 0);
	memset(vd_ram(data), 0, sizeof want);
	CHECK_EQ(COMMAND(0, 0, 8192, 0x28, 0, 0, 0, 0, 32, 0, 0, 16, 0), 0);
	CHECK(memcmp(vd_ram(data), want, sizeof want) == 0);
	CHECK_EQ(residual(), 0);
	CHECK_EQ(COMMAND(0, 0, 8192, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 33, 0, 0, 0, 1), 0);
	CHECK_EQ(residual(), 8192 - 512);
	CHECK(memcmp(vd_ram(data), want + 512, 512) == 0);
	CHECK_EQ(COMMAND(0, 0, 512, 0x08, 0, 0, 34, 1), 0);
	CHECK(memcmp(vd_ram(data), want + 1024, 512) == 0);
	CHECK_EQ(COMMAND(0, 0, 512, 0xa8, 0, 0, 0, 0, 35, 0, 0, 0, 1), 0);
	CHECK(memcmp(vd_ram(data), want + 1536, 512) == 0);
	/* Less room than data; past the end. */
	CHECK_EQ(COMMAND(0, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0), 0x101);
	CHECK_EQ(COMMAND(0, 0, 1024, 0x28, 0, 0, 0, 0x1f, 0xff, 0, 0, 2, 0), 2);
	CHECK_EQ(sense_code(), 0x21);
	CHECK_EQ(COMMAND(0, 0, 0, 0x35), 0);
	CHECK_EQ(COMMAND(0, 0, 0, 0x2f, 0, 0, 0, 0, 0, 0, 0, 1), 0);
	CHECK_EQ(COMMAND(0, 0, 0, 0xff), 2);
	CHECK_EQ(sense_code(), 0x20);
	/* Zeroes: WRITE SAME and UNMAP. */
	memset(vd_ram(data), 0, 512);
	CHECK_EQ(COMMAND(0, 512, 0, 0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 34, 0, 0, 0, 2), 0);
	*vd_ram(data + 7) = 1;
	CHECK_EQ(COMMAND(0, 512, 0, 0x93, 0, 0, 0, 0, 0, 0, 0, 0, 34, 0, 0, 0, 2), 2);
	memset(vd_ram(data), 0, 24);
	*vd_ram(data + 1) = 22;
	*vd_ram(data + 3) = 16;
	*vd_ram(data + 15) = 40;
	*vd_ram(data + 19) = 4;
	CHECK_EQ(COMMAND(0, 24, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 24), 0);
	*vd_ram(data + 8) = 1;
	CHECK_EQ(COMMAND(0, 24, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 24), 2);
	CHECK_EQ(COMMAND(0, 0, 8192, 0x28, 0, 0, 0, 0, 32, 0, 0, 16, 0), 0);
	memset(want + 1024, 0, 1024);
	memset(want + 4096, 0, 2048);
	CHECK(memcmp(vd_ram(data), want, sizeof want) == 0);
}

static void test_cdrom(void)
{
	while (COMMAND(1, 0, 0, 0x00) == 2 && sense_key() == 6)
		passed++; /* power-on, new disc */
	CHECK_EQ(COMMAND(1, 0, 96, 0x12, 0, 0, 0, 96, 0), 0);
	CHECK_EQ(*vd_ram(data), 5);
	CHECK_EQ(COMMAND(1, 0, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
	CHECK_EQ(__builtin_bswap32(vd_get(data, 4)), DISK / 2048 - 1);
	CHECK_EQ(COMMAND(1, 0, 4096, 0x28, 0, 0, 0, 0, 1, 0, 0, 2, 0), 0);
	CHECK_EQ(COMMAND(1, 2048, 0, 0x2a, 0, 0, 0, 0, 1, 0, 0, 1, 0), 2);
	CHECK_EQ(sense_key(), 5);
}

static void test_control(void)
{
	struct vd_segment s[2] = {{head, 24}, {answer, 1}};

	memset(vd_ram(head), 0, 24);
	vd_put32(head + 4, 5); /* logical unit reset */
	*vd_ram(head + 8) = 1;
	*vd_ram(head + 10) = 0x40;
	*vd_ram(answer) = 0x55;
	uint16_t id = vd_add(&v, 0, s, 1, 1);
	vd_kick(&v, 0);
	CHECK_EQ(vd_wait(&v, 0, id), 1);
	CHECK_EQ(*vd_ram(answer), 0);
	*vd_ram(head + 9) = 7;
	id = vd_add(&v, 0, s, 1, 1);
	vd_kick(&v, 0);
	CHECK_EQ(vd_wait(&v, 0, id), 1);
	CHECK_EQ(*vd_ram(answer), 3);
}

/* A reset of a logical unit with a command under way: that one is given back first. */
static void test_abort(void)
{
	struct vd_segment c[3] = {{head, HEAD}, {answer, ANSWER}, {data, 8192}}, t[2] = {{data + 16384, 24}, {data + 8192, 1}};
	static const uint8_t read_10[] = {0x28, 0, 0, 0, 0, 32, 0, 0, 16, 0};
	bool command_back = false;
	uint32_t len;
	uint16_t id;

	memset(vd_ram(head), 0, HEAD);
	memset(vd_ram(data + 16384), 0, 24);
	*vd_ram(head) = *vd_ram(data + 16384 + 8) = 1;
	*vd_ram(head + 2) = *vd_ram(data + 16384 + 10) = 0x40;
	memcpy(vd_ram(head + 19), read_10, sizeof read_10);
	vd_put32(data + 16384 + 4, 5);
	*vd_ram(data + 8192) = 0x55;
	vd_add(&v, 2, c, 1, 2);
	vd_kick(&v, 2);
	vd_turn(); /* it is started */
	vd_add(&v, 0, t, 1, 1);
	vd_kick(&v, 0);
	for (unsigned i = 0; i < 50000 && !vd_used(&v, 0, &id, &len); i++) {
		vd_turn();
		CHECK(*vd_ram(data + 8192) == 0x55 || command_back || (command_back = vd_used(&v, 2, &id, &len)));
		usleep(100);
	}
	CHECK(command_back);
	CHECK_EQ(*vd_ram(data + 8192), 0);
}

int main(void)
{
	start();
	test_identity();
	test_data();
	test_cdrom();
	test_control();
	test_abort();
	stop();
	return summary();
}
