/*
 * Captures. See pcap.h. Format: pcap (draft-ietf-opsawg-pcap).
 *
 * Two buffers: frames go to one while the thread writes the other.
 */
#include "net/pcap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "net/net.h"
#include "net/offload.h"
#include "sandbox/sandbox.h"
#include "util/log.h"
#include "util/write.h"

#define BUFFER_SIZE (4u << 20)
#define MAGIC_NANOSECONDS 0xa1b23c4du
#define SNAP_LENGTH 262144u
#define LINKTYPE_ETHERNET 1u

struct pcap {
	int fd;
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t work;
	uint8_t *fill, *drain; /* BUFFER_SIZE each; drain is the thread's */
	size_t filled;
	bool closing;
	int error;
	uint64_t left_out;
};

struct file_header {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, accuracy, snap_length, link_type;
};

struct record_header {
	uint32_t seconds, nanoseconds, captured, length;
};

static void *pcap_main(void *opaque)
{
	struct pcap *p = opaque;

	sandbox_enter(SANDBOX_FILE);
	pthread_mutex_lock(&p->lock);
	while (p->filled || !p->closing) {
		if (!p->filled) {
			pthread_cond_wait(&p->work, &p->lock);
			continue;
		}
		uint8_t *full = p->fill;
		size_t len = p->filled;
		p->fill = p->drain;
		p->drain = full;
		p->filled = 0;
		pthread_mutex_unlock(&p->lock);
		int r = p->error ? 0 : write_all(p->fd, full, len);
		pthread_mutex_lock(&p->lock);
		if (r < 0) {
			p->error = r;
			fprintf(stderr, "ringside: capture ends: %s\n", strerror(-r));
		}
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

void pcap_write(struct pcap *p, const struct net_frame *f)
{
	struct timespec now;
	struct record_header header = {.captured = f->len, .length = f->len};

	clock_gettime(CLOCK_REALTIME, &now);
	header.seconds = (uint32_t)now.tv_sec;
	header.nanoseconds = (uint32_t)now.tv_nsec;
	pthread_mutex_lock(&p->lock);
	if (BUFFER_SIZE - p->filled < sizeof header + f->len) {
		p->left_out++;
	} else {
		memcpy(p->fill + p->filled, &header, sizeof header);
		net_flatten(f, p->fill + p->filled + sizeof header, f->len);
		if (!p->filled)
			pthread_cond_signal(&p->work);
		p->filled += sizeof header + f->len;
	}
	pthread_mutex_unlock(&p->lock);
}

static void free_all(struct pcap *p)
{
	close(p->fd);
	free(p->fill);
	free(p->drain);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

struct pcap *pcap_open(const char *path, char *error, size_t size)
{
	static const struct file_header header = {.magic = MAGIC_NANOSECONDS, .major = 2, .minor = 4,
						  .snap_length = SNAP_LENGTH, .link_type = LINKTYPE_ETHERNET};
	struct pcap *p = calloc(1, sizeof *p);
	int r = p ? 0 : -ENOMEM;

	if (!p)
		goto no_memory;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	p->fill = malloc(BUFFER_SIZE);
	p->drain = malloc(BUFFER_SIZE);
	p->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (p->fd < 0)
		r = -errno;
	else if (!p->fill || !p->drain)
		r = -ENOMEM;
	else if ((r = write_all(p->fd, &header, sizeof header)) == 0)
		r = -pthread_create(&p->thread, NULL, pcap_main, p);
	if (r == 0)
		return p;
	free_all(p);
no_memory:
	snprintf(error, size, "--net pcap=%s: %s", path, strerror(-r));
	return NULL;
}

void pcap_close(struct pcap *p)
{
	pthread_mutex_lock(&p->lock);
	p->closing = true;
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	if (p->left_out)
		fprintf(stderr, "ringside: %llu frames are not in the capture: the disk was too slow\n",
			(unsigned long long)p->left_out);
	free_all(p);
}
