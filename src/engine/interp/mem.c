/*
 * The interpreter's data accesses where the TLB does not answer at once: segment checks, alignment
 * checks, I/O, pages crossed. On the vCPU's thread.
 * SDM 3A 6.15 (#AC); SDM 1 3.3. Data breakpoints are mmu.c's: their pages never hit the TLB.
 */
#include "engine/interp/interp.h"

enum x mem_linear(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, unsigned access, uint64_t *linear)
{
	TRY(segment_linear(cpu, seg, offset, size, access, linear));
	if (__builtin_expect(!access_watched(cpu), 1))
		return X_OK;
	bool checked = size == 2 || size == 4 || size == 8;
	if (checked && (cpu->cr0 & CR0_AM) && (*linear & (size - 1))) {
		TRY(mmu_probe(cpu, *linear, size, access & ACCESS_WRITE ? MMU_WRITE : MMU_READ));
		return cpu_raise_error(cpu, VEC_AC, 0);
	}
	return X_OK;
}

enum x mem_load_slow(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, uint64_t *v)
{
	uint64_t linear, value = 0;
	TRY(mem_linear(cpu, seg, offset, size, ACCESS_READ, &linear));
	const void *p = tlb_hit(cpu, TLB_READ, linear, size);
	if (p)
		value = host_load(p, size);
	else
		TRY(mmu_read(cpu, linear, &value, size, MMU_READ));
	*v = value;
	return X_OK;
}

enum x mem_store_slow(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, uint64_t v)
{
	uint64_t linear;
	TRY(mem_linear(cpu, seg, offset, size, ACCESS_WRITE, &linear));
	void *p = tlb_hit(cpu, TLB_WRITE, linear, size);
	if (p)
		host_store(p, size, v);
	else
		TRY(mmu_write(cpu, linear, &v, size, MMU_WRITE));
	return X_OK;
}

enum x rmw_begin_mem(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, struct rmw *m)
{
	m->hva = flat_linear(cpu, seg, offset, &m->linear) ? tlb_hit(cpu, TLB_WRITE, m->linear, size) : NULL;
	if (!m->hva) {
		TRY(mem_linear(cpu, seg, offset, size, ACCESS_READ_WRITE, &m->linear));
		TRY(mmu_writable_pointer(cpu, m->linear, size, &m->hva));
		if (!m->hva && m->locked && (m->linear & ~PAGE_MASK) + size > PAGE_SIZE)
			TRY(mmu_crossing_pointer(cpu, m->linear, size, &m->hva));
	}
	if (m->hva) {
		m->old = host_load(m->hva, size);
		return X_OK;
	}
	m->old = 0;
	TRY(mmu_probe(cpu, m->linear, size, MMU_WRITE));
	return mmu_read(cpu, m->linear, &m->old, size, MMU_READ);
}

/* True when *p was `old` and is now v; otherwise *old is what it is. */
static bool compare_exchange(void *p, unsigned size, uint64_t *old, uint64_t v)
{
	uint64_t seen = *old;
	bool done;
	switch (size) {
	case 1:
		asm volatile("lock cmpxchgb %b3, %2" : "=@ccz"(done), "+a"(seen), "+m"(*(uint8_t (*)[1])p) : "q"(v) : "memory");
		break;
	case 2:
		asm volatile("lock cmpxchgw %w3, %2" : "=@ccz"(done), "+a"(seen), "+m"(*(uint8_t (*)[2])p) : "r"(v) : "memory");
		break;
	case 4:
		asm volatile("lock cmpxchgl %k3, %2" : "=@ccz"(done), "+a"(seen), "+m"(*(uint8_t (*)[4])p) : "r"(v) : "memory");
		break;
	default:
		asm volatile("lock cmpxchgq %3, %2" : "=@ccz"(done), "+a"(seen), "+m"(*(uint8_t (*)[8])p) : "r"(v) : "memory");
		break;
	}
	if (!done)
		*old = seen & size_mask(size);
	return done;
}

enum x rmw_commit_mem(struct cpu *cpu, struct rmw *m, unsigned size, uint64_t v, bool *again)
{
	*again = false;
	if (!m->hva)
		TRY(mmu_write(cpu, m->linear, &v, size, MMU_WRITE));
	else if (!m->locked)
		host_store(m->hva, size, v);
	else if (!compare_exchange(m->hva, size, &m->old, v)) {
		*again = true;
		return X_OK;
	}
	return X_OK;
}
