/*
 * Places in scatter lists. See image.h. Any thread; a cursor belongs to its caller.
 */
#include <string.h>

#include "block/image.h"

int iov_take(struct iov_cursor *c, struct iovec *v, int max, uint64_t len)
{
	int n = 0;

	while (n < max && len && c->count) {
		size_t left = c->iov->iov_len - c->skip, part = left < len ? left : (size_t)len;

		if (part) {
			v[n].iov_base = (uint8_t *)c->iov->iov_base + c->skip;
			v[n++].iov_len = part;
		}
		len -= part;
		c->skip += part;
		if (c->skip == c->iov->iov_len) {
			c->iov++;
			c->count--;
			c->skip = 0;
		}
	}
	return n;
}

void iov_fill(struct iov_cursor *c, uint8_t byte, uint64_t len)
{
	struct iovec v;

	for (; len && iov_take(c, &v, 1, len); len -= v.iov_len)
		memset(v.iov_base, byte, v.iov_len);
}

uint64_t iov_copy_to(struct iov_cursor *to, const void *buf, uint64_t len)
{
	struct iovec v;
	uint64_t done = 0;

	for (; done < len && iov_take(to, &v, 1, len - done); done += v.iov_len)
		memcpy(v.iov_base, (const uint8_t *)buf + done, v.iov_len);
	return done;
}

uint64_t iov_copy_from(void *buf, struct iov_cursor *from, uint64_t len)
{
	struct iovec v;
	uint64_t done = 0;

	for (; done < len && iov_take(from, &v, 1, len - done); done += v.iov_len)
		memcpy((uint8_t *)buf + done, v.iov_base, v.iov_len);
	return done;
}
