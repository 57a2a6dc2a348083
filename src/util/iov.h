/* Lists of memory segments. Small and pure; any thread. */
#ifndef RINGSIDE_IOV_H
#define RINGSIDE_IOV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Takes `bytes` off the front of a list; changes the first segment that stays. */
static inline void iov_skip(struct iovec **v, unsigned *count, size_t bytes)
{
	while (*count && bytes >= (*v)->iov_len) {
		bytes -= (*v)->iov_len;
		(*v)++;
		(*count)--;
	}
	if (*count) {
		(*v)->iov_base = (uint8_t *)(*v)->iov_base + bytes;
		(*v)->iov_len -= bytes;
	}
}

/* Leaves the first `bytes` of a list; changes its last segment. */
static inline void iov_cut(struct iovec *v, unsigned *count, size_t bytes)
{
	unsigned n = 0;

	for (; n < *count && bytes; n++) {
		if (v[n].iov_len > bytes)
			v[n].iov_len = bytes;
		bytes -= v[n].iov_len;
	}
	*count = n;
}

#endif
