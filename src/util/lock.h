/*
 * A mutual exclusion lock of one word, for code that runs while guest vector state is in the host's
 * registers: nothing here uses any but general registers. A holder never sleeps for long; it is not
 * recursive. States: 0 free, 1 held, 2 held and somebody may sleep for it (futex(2)).
 */
#ifndef RINGSIDE_LOCK_H
#define RINGSIDE_LOCK_H

#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

struct lock {
	uint32_t word;
};

#define LOCK_SPINS 200

static inline void lock_take(struct lock *lock)
{
	uint32_t free = 0;

	if (__atomic_compare_exchange_n(&lock->word, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	for (unsigned i = 0; i < LOCK_SPINS; i++) {
		__builtin_ia32_pause();
		free = 0;
		if (__atomic_load_n(&lock->word, __ATOMIC_RELAXED) == 0 &&
		    __atomic_compare_exchange_n(&lock->word, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return;
	}
	while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE) != 0)
		syscall(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

static inline void lock_release(struct lock *lock)
{
	if (__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2)
		syscall(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

#endif
