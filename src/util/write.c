#include "util/write.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

static int all(int fd, const uint8_t *data, size_t len, bool seeks, uint64_t at)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = seeks ? pwrite(fd, data + done, len - done, (off_t)(at + done)) : write(fd, data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

int write_all(int fd, const void *data, size_t len) { return all(fd, data, len, false, 0); }

int write_all_at(int fd, const void *data, size_t len, uint64_t at) { return all(fd, data, len, true, at); }

int read_all(int fd, void *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(fd, (uint8_t *)data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}
