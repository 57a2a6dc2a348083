/*
 * What is mapped where: blocks of memory besides RAM, and windows without memory.
 *
 * The list of mappings is kept as asked for, and a view of it, disjoint and sorted, is made anew at every change: that
 * is what accesses go by. Both change under vm->lock. The view is read by any thread without a lock, so it has a
 * version, odd while it changes; who reads looks at the version before and after, and reads again if it has moved.
 */
#include "mem/memory.h"

#include <errno.h>

int memory_add_block(struct memory *m, uint64_t size, uint64_t *offset)
{
	if (size == 0 || size > MEMORY_BLOCKS_MAX)
		return -EINVAL;
	size = (size + PAGE_SIZE - 1) & PAGE_MASK;
	if (size > memory_span(m) - m->end)
		return -ENOSPC;
	*offset = m->end;
	m->end += size;
	return 0;
}

/* ---- the view ---- */

static void field_set(uint64_t *field, uint64_t value) { __atomic_store_n(field, value, __ATOMIC_RELAXED); }

static void view_set(struct memory *m, unsigned i, uint64_t gpa, uint64_t len, const struct memory_map *of)
{
	struct memory_map *v = &m->view[i];

	field_set(&v->gpa, gpa);
	field_set(&v->len, len);
	field_set(&v->offset, of->offset == MEMORY_NOT_RAM ? MEMORY_NOT_RAM : of->offset + (gpa - of->gpa));
	__atomic_store_n(&v->readonly, of->readonly, __ATOMIC_RELAXED);
}

static void view_insert(struct memory *m, unsigned i, uint64_t gpa, uint64_t len, const struct memory_map *of)
{
	for (unsigned k = m->views; k > i; k--)
		view_set(m, k, m->view[k - 1].gpa, m->view[k - 1].len, &m->view[k - 1]);
	view_set(m, i, gpa, len, of);
	__atomic_store_n(&m->views, m->views + 1, __ATOMIC_RELAXED);
}

/* The parts of a mapping that older ones leave. Each older one splits off one part at most. */
static void view_add(struct memory *m, const struct memory_map *map)
{
	uint64_t at = map->gpa, end = map->gpa + map->len;

	for (unsigned i = 0; at < end; i++) {
		const struct memory_map *v = &m->view[i];

		if (i < m->views && v->gpa + v->len <= at)
			continue;
		if (i == m->views || v->gpa > at) {
			uint64_t until = i < m->views && v->gpa < end ? v->gpa : end;

			view_insert(m, i, at, until - at, map);
			at = until;
		} else {
			at = v->gpa + v->len;
		}
	}
}

static void view_make(struct memory *m)
{
	uint32_t version = m->maps_version;

	__atomic_store_n(&m->maps_version, version + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&m->views, 0, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < m->maps; i++)
		view_add(m, &m->map[i]);
	__atomic_store_n(&m->maps_version, version + 2, __ATOMIC_RELEASE);
}

static void changed(struct memory *m)
{
	/* Not in the middle of what an engine compares. */
	if (m->write_begin)
		m->write_begin(m->write_opaque);
	view_make(m);
	if (m->write_end)
		m->write_end(m->write_opaque, 0, 0);
	if (m->remapped)
		m->remapped(m->remapped_opaque);
}

/* ---- mapping ---- */

int memory_map(struct memory *m, uint64_t gpa, uint64_t len, uint64_t offset, bool readonly)
{
	bool hole = offset == MEMORY_NOT_RAM;

	if (len == 0 || (gpa | len) & ~PAGE_MASK || gpa + len < gpa)
		return -EINVAL;
	if (!hole && (offset & ~PAGE_MASK || offset > m->end || len > m->end - offset))
		return -EINVAL;
	if (m->maps == MEMORY_MAPS_MAX)
		return -ENOSPC;
	m->map[m->maps++] = (struct memory_map){.gpa = gpa, .len = len, .offset = offset, .readonly = readonly && !hole};
	changed(m);
	return 0;
}

void memory_unmap(struct memory *m, uint64_t gpa, uint64_t len, uint64_t offset)
{
	for (unsigned i = 0; i < m->maps; i++) {
		const struct memory_map *map = &m->map[i];

		if (map->gpa != gpa || map->len != len || map->offset != offset)
			continue;
		m->maps--;
		for (; i < m->maps; i++)
			m->map[i] = m->map[i + 1];
		changed(m);
		return;
	}
}

void memory_copy_maps(struct memory *to, const struct memory *from)
{
	to->end = from->end;
	to->maps = from->maps;
	for (unsigned i = 0; i < from->maps; i++)
		to->map[i] = from->map[i];
	view_make(to);
}

/* ---- look-up ---- */

/* Where memory that is seen at gpa lies, and how many bytes from there on are of the same kind. False: nowhere. */
static bool piece_at(const struct memory *m, uint64_t gpa, uint64_t *offset, uint64_t *len, bool *readonly)
{
	uint64_t high = gpa - MEMORY_HIGH_BASE, next = UINT64_MAX;
	bool overlay = gpa >= MEMORY_VGA_BASE && gpa < MEMORY_OVERLAY_END;
	unsigned views;

	*readonly = false;
	if (!overlay && gpa < m->low) {
		*offset = gpa;
		*len = (gpa < MEMORY_VGA_BASE && m->low > MEMORY_VGA_BASE ? MEMORY_VGA_BASE : m->low) - gpa;
		return true;
	}
	if (gpa >= MEMORY_HIGH_BASE && high < m->size - m->low) {
		*offset = m->low + high;
		*len = m->size - *offset;
		return true;
	}
	views = __atomic_load_n(&m->views, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < views && i < 2 * MEMORY_MAPS_MAX; i++) {
		uint64_t base = __atomic_load_n(&m->view[i].gpa, __ATOMIC_RELAXED);
		uint64_t size = __atomic_load_n(&m->view[i].len, __ATOMIC_RELAXED);

		if (gpa >= base && gpa - base < size) {
			*offset = __atomic_load_n(&m->view[i].offset, __ATOMIC_RELAXED);
			*len = size - (gpa - base);
			*readonly = __atomic_load_n(&m->view[i].readonly, __ATOMIC_RELAXED);
			if (*offset == MEMORY_NOT_RAM)
				return false;
			*offset += gpa - base;
			return true;
		}
		if (base > gpa) {
			next = base;
			break;
		}
	}
	if (overlay && gpa >= MEMORY_VGA_END && gpa < m->low) {
		uint64_t end = m->low < MEMORY_OVERLAY_END ? m->low : MEMORY_OVERLAY_END;

		*offset = gpa;
		*len = (next < end ? next : end) - gpa;
		return true;
	}
	return false;
}

/* Pieces one after the other, as long as they lie together in the host mapping. */
static uint64_t find(const struct memory *m, uint64_t gpa, uint64_t len, bool *readonly)
{
	uint64_t first = MEMORY_NOT_RAM, expected = MEMORY_NOT_RAM, offset, n;
	bool piece_readonly;

	*readonly = false;
	do {
		if (!piece_at(m, gpa, &offset, &n, &piece_readonly))
			return MEMORY_NOT_RAM;
		if (first == MEMORY_NOT_RAM)
			first = offset;
		else if (offset != expected)
			return MEMORY_NOT_RAM;
		*readonly |= piece_readonly;
		if (n >= len || gpa + n < gpa)
			return n >= len ? first : MEMORY_NOT_RAM;
		expected = offset + n;
		gpa += n;
		len -= n;
	} while (true);
}

uint64_t memory_offset_mapped(const struct memory *m, uint64_t gpa, uint64_t len, bool *readonly)
{
	uint32_t version;
	uint64_t offset;

	do {
		version = __atomic_load_n(&m->maps_version, __ATOMIC_ACQUIRE);
		offset = find(m, gpa, len, readonly);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	} while (version & 1 || __atomic_load_n(&m->maps_version, __ATOMIC_RELAXED) != version);
	return offset;
}

/* The lowest address above gpa where something of another kind may begin; UINT64_MAX: none. */
static uint64_t next_boundary(const struct memory *m, uint64_t gpa)
{
	uint64_t next = UINT64_MAX;
	unsigned views = __atomic_load_n(&m->views, __ATOMIC_RELAXED);

	if (gpa < MEMORY_VGA_END)
		next = MEMORY_VGA_END;
	else if (gpa < MEMORY_OVERLAY_END)
		next = MEMORY_OVERLAY_END;
	else if (gpa < MEMORY_HIGH_BASE)
		next = MEMORY_HIGH_BASE;
	for (unsigned i = 0; i < views && i < 2 * MEMORY_MAPS_MAX; i++) {
		uint64_t base = __atomic_load_n(&m->view[i].gpa, __ATOMIC_RELAXED);
		uint64_t end = base + __atomic_load_n(&m->view[i].len, __ATOMIC_RELAXED);

		if (base > gpa && base < next)
			next = base;
		else if (end > gpa && end < next)
			next = end;
	}
	return next;
}

static unsigned pieces(const struct memory *m, struct memory_map *piece)
{
	unsigned count = 0;
	uint64_t gpa = 0, len;

	while (gpa != UINT64_MAX && count < MEMORY_PIECES_MAX) {
		struct memory_map *p = &piece[count];
		bool overlay = gpa >= MEMORY_VGA_BASE && gpa < MEMORY_OVERLAY_END;

		if (!piece_at(m, gpa, &p->offset, &len, &p->readonly)) {
			gpa = next_boundary(m, gpa);
			continue;
		}
		if (overlay && len > MEMORY_OVERLAY_END - gpa)
			len = MEMORY_OVERLAY_END - gpa;
		p->gpa = gpa;
		p->len = len;
		gpa += len;
		count++;
	}
	return count;
}

unsigned memory_pieces(const struct memory *m, struct memory_map piece[MEMORY_PIECES_MAX], uint32_t *version)
{
	unsigned count;

	do {
		*version = __atomic_load_n(&m->maps_version, __ATOMIC_ACQUIRE);
		count = pieces(m, piece);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	} while (*version & 1 || __atomic_load_n(&m->maps_version, __ATOMIC_RELAXED) != *version);
	return count;
}

uint64_t memory_offset_to_gpa(const struct memory *m, uint64_t offset)
{
	if (offset < m->low)
		return offset;
	if (offset < m->size)
		return offset - m->low + MEMORY_HIGH_BASE;
	for (unsigned i = 0; i < m->views; i++)
		if (m->view[i].offset != MEMORY_NOT_RAM && offset >= m->view[i].offset &&
		    offset - m->view[i].offset < m->view[i].len)
			return m->view[i].gpa + (offset - m->view[i].offset);
	return MEMORY_NOT_RAM;
}
