/*
 * Compressed clusters of qcow2 images, read only: what is written again is written plain. See qcow2.h.
 *
 * The cluster that was decompressed last is kept, for guests that read in small pieces.
 */
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "block/qcow2.h"

#define SECTOR 512u
#define DEFLATE_WINDOW (-12) /* bits; negative: no zlib header */

void qcow2_compressed_range(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *len)
{
	unsigned offset_bits = 62 - (q->cluster_bits - 8);
	uint64_t sectors = (entry & (QCOW2_COMPRESSED - 1)) >> offset_bits;

	*offset = entry & ((1ull << offset_bits) - 1);
	*len = (sectors + 1) * SECTOR - *offset % SECTOR;
}

/* The input may go on behind what is needed; the output must be whole. */
static int inflate_deflate(uint8_t *out, uint64_t out_len, uint8_t *in, uint64_t in_len)
{
	z_stream z = {.next_in = in, .avail_in = (uInt)in_len, .next_out = out, .avail_out = (uInt)out_len};

	if (inflateInit2(&z, DEFLATE_WINDOW) != Z_OK)
		return -ENOMEM;
	int r = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return (r == Z_STREAM_END || r == Z_BUF_ERROR) && z.avail_out == 0 ? 0 : -EIO;
}

static int inflate_zstd(uint8_t *out, uint64_t out_len, const uint8_t *in, uint64_t in_len)
{
	ZSTD_inBuffer from = {.src = in, .size = in_len};
	ZSTD_outBuffer to = {.dst = out, .size = out_len};
	ZSTD_DCtx *z = ZSTD_createDCtx();
	size_t r = 1;

	if (!z)
		return -ENOMEM;
	while (to.pos < to.size) {
		size_t in_before = from.pos, out_before = to.pos;

		r = ZSTD_decompressStream(z, &to, &from);
		if (ZSTD_isError(r) || (from.pos == in_before && to.pos == out_before))
			break;
	}
	ZSTD_freeDCtx(z);
	return !ZSTD_isError(r) && to.pos == to.size ? 0 : -EIO;
}

static int read_cluster(struct qcow2 *q, uint64_t entry, uint8_t *out)
{
	uint64_t offset, len;
	uint8_t *in;
	int r;

	qcow2_compressed_range(q, entry, &offset, &len);
	if (!(in = malloc(len)))
		return -ENOMEM;
	if ((r = image_read_bytes(q->file, offset, in, len)) == 0)
		r = q->zstd ? inflate_zstd(out, q->cluster_size, in, len) :
			      inflate_deflate(out, q->cluster_size, in, len);
	free(in);
	return r;
}

int qcow2_read_compressed(struct qcow2 *q, uint64_t entry, uint64_t from, struct iov_cursor *to, uint64_t len)
{
	uint8_t *cluster;
	int r;

	pthread_mutex_lock(&q->inflated_lock);
	if (q->inflated_entry == entry) {
		iov_copy_to(to, q->inflated + from, len);
		pthread_mutex_unlock(&q->inflated_lock);
		return 0;
	}
	pthread_mutex_unlock(&q->inflated_lock);
	if (!(cluster = malloc(q->cluster_size)))
		return -ENOMEM;
	if ((r = read_cluster(q, entry, cluster)) < 0) {
		free(cluster);
		return r;
	}
	iov_copy_to(to, cluster + from, len);
	pthread_mutex_lock(&q->inflated_lock);
	free(q->inflated);
	q->inflated = cluster;
	q->inflated_entry = entry;
	pthread_mutex_unlock(&q->inflated_lock);
	return 0;
}
