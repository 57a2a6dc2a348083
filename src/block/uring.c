/*
 * io_uring through liburing. See uring.h for locks.
 *
 * What the page cache has is copied while uring_submit runs, on the thread that calls it; larger pieces and what
 * has to wait are the kernel's workers'.
 */
#include "block/uring.h"

#include <liburing.h>
#include <limits.h>
#include <stdlib.h>

#include "block/block.h"

#define ENTRIES 256u
#define KERNEL_WORKERS 8u

struct uring {
	struct io_uring ring;
	unsigned going; /* prepared and not taken: never more than the completion queue has room for */
};

/* For good: what is done through a ring no seccomp filter sees, and a ring can do most of what system calls can. */
static bool restrict_ring(struct uring *u)
{
	struct io_uring_restriction allowed[] = {
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV},
	};

	/* Debian's liburing 2.3 does not export its functions for these. */
	return io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_RESTRICTIONS, allowed,
				 sizeof allowed / sizeof allowed[0]) == 0 &&
	       io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) == 0;
}

struct uring *uring_new(void)
{
	struct uring *u = calloc(1, sizeof *u);
	unsigned workers[2] = {KERNEL_WORKERS, KERNEL_WORKERS};

	if (!u)
		return NULL;
	if (io_uring_queue_init(ENTRIES, &u->ring, IORING_SETUP_R_DISABLED) < 0) {
		free(u);
		return NULL;
	}
	io_uring_ring_dontfork(&u->ring);
	io_uring_register_iowq_max_workers(&u->ring, workers); /* older kernels: their own limit */
	if (!restrict_ring(u)) {
		uring_free(u);
		return NULL;
	}
	return u;
}

void uring_free(struct uring *u)
{
	if (!u)
		return;
	io_uring_queue_exit(&u->ring);
	free(u);
}

int uring_fd(const struct uring *u) { return u->ring.ring_fd; }

bool uring_add(struct uring *u, struct block_request *r, int fd, uint64_t at, bool sync)
{
	struct io_uring_sqe *sqe = u->going < ENTRIES ? io_uring_get_sqe(&u->ring) : NULL;

	if (!sqe)
		return false;
	if (r->op == BLOCK_READ)
		io_uring_prep_readv(sqe, fd, r->iov, (unsigned)r->iov_count, at);
	else
		io_uring_prep_writev2(sqe, fd, r->iov, (unsigned)r->iov_count, at, sync ? RWF_DSYNC : 0);
	io_uring_sqe_set_data(sqe, r);
	u->going++;
	return true;
}

int uring_submit(struct uring *u)
{
	int r;

	do
		r = io_uring_submit(&u->ring);
	while (r == -EINTR);
	return r < 0 ? r : 0;
}

struct block_request *uring_take(struct uring *u, int *result)
{
	struct io_uring_cqe *cqe;
	struct block_request *r;

	if (io_uring_peek_cqe(&u->ring, &cqe) != 0)
		return NULL;
	r = io_uring_cqe_get_data(cqe);
	*result = cqe->res;
	io_uring_cqe_seen(&u->ring, cqe);
	u->going--;
	return r;
}

void uring_wait(struct uring *u)
{
	struct io_uring_cqe *cqe;

	io_uring_wait_cqe(&u->ring, &cqe);
}
