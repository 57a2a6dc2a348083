/* Guest memory: where RAM is, accessors at every edge, page state, refusals. And log topics. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "mem/memory.h"
#include "util/log.h"

static uint64_t told_gpa, told_len;
static unsigned told;
static void code_write(void *opaque, uint64_t gpa, uint64_t len)
{
	(void)opaque;
	told++;
	told_gpa = gpa;
	told_len = len;
}

static void small(void)
{
	struct memory m;
	uint8_t buf[64] = "hello";

	check_named("64 MiB", memory_init(&m, 64 << 20) == 0 && m.low == 64 << 20);
	check_named("all of it is there", memory_hva(&m, 0x100000, (64 << 20) - 0x100000) == m.base + 0x100000);
	check_named("no byte more", memory_hva(&m, 0x100000, (64 << 20) - 0x100000 + 1) == NULL);
	check_named("nothing behind it", memory_hva(&m, 64 << 20, 1) == NULL);
	check_named("nothing from 4 GiB on", memory_hva(&m, MEMORY_HIGH_BASE, 1) == NULL);
	check_named("no wrap-around", memory_hva(&m, 0x1000, UINT64_MAX) == NULL &&
		    memory_hva(&m, UINT64_MAX, 2) == NULL);
	check_named("the VGA window is no RAM", memory_hva(&m, 0xa0000, 1) == NULL &&
		    memory_hva(&m, 0xbffff, 1) == NULL);
	check_named("an access into it fails", memory_hva(&m, 0x9ffff, 2) == NULL &&
		    memory_hva(&m, 0x9ffff, 1) != NULL);
	check_named("RAM behind it", memory_hva(&m, 0xc0000, 4096) == m.base + 0xc0000);
	check_named("write", memory_write(&m, 0x200000, buf, 6) == 0 && memcmp(m.base + 0x200000, "hello", 6) == 0);
	check_named("dirty", (m.state[0x200] & PAGE_DIRTY) && !(m.state[0x201] & PAGE_DIRTY));
	memset(buf, 0, sizeof buf);
	check_named("read", memory_read(&m, 0x200000, buf, 6) == 0 && memcmp(buf, "hello", 6) == 0);
	check_named("a write that does not fit changes nothing",
	      memory_write(&m, (64 << 20) - 3, "xxxx", 4) == -EFAULT && m.base[(64 << 20) - 3] == 0);
	check_named("reads of nothing fail", memory_read(&m, MEMORY_LOW_MAX, buf, 1) == -EFAULT);
	check_named("length 0 is fine anywhere", memory_write(&m, UINT64_MAX, buf, 0) == 0);
	m.code_write = code_write;
	m.state[0x301] |= PAGE_HAS_CODE;
	check_named("pages without code", memory_fill(&m, 0x300000, 1, 4096) == 0 && told == 0);
	check_named("a page with code",
	      memory_fill(&m, 0x300fff, 1, 2) == 0 && told == 1 && told_gpa == 0x300fff && told_len == 2);
	check_named("both pages are dirty", (m.state[0x300] & PAGE_DIRTY) && (m.state[0x301] & PAGE_DIRTY));
	memory_free(&m);
}

static void large(void)
{
	struct memory m;

	/* Nothing is touched but a few pages. */
	if (memory_init(&m, 5ull << 30) < 0) {
		puts("# this host has no 5 GiB: parts above 4 GiB are not tested");
		return;
	}
	check_named("5 GiB: low part", m.low == MEMORY_LOW_MAX && memory_hva(&m, MEMORY_LOW_MAX - 1, 1) != NULL);
	check_named("a hole", memory_hva(&m, MEMORY_LOW_MAX, 1) == NULL &&
		    memory_hva(&m, MEMORY_HIGH_BASE - 1, 1) == NULL);
	check_named("no access over the hole's edge", memory_hva(&m, MEMORY_LOW_MAX - 1, 2) == NULL);
	check_named("high part", memory_hva(&m, MEMORY_HIGH_BASE, 2ull << 30) == m.base + m.low);
	check_named("its end", memory_hva(&m, MEMORY_HIGH_BASE + (2ull << 30) - 1, 1) != NULL &&
				 memory_hva(&m, MEMORY_HIGH_BASE + (2ull << 30), 1) == NULL);
	check_named("offsets and back",
	      memory_offset_to_gpa(&m, m.low) == MEMORY_HIGH_BASE && memory_offset_to_gpa(&m, 5) == 5);
	check_named("a write there", memory_write(&m, MEMORY_HIGH_BASE + 7, "x", 1) == 0 && m.base[m.low + 7] == 'x');
	memory_free(&m);
}

static unsigned remaps;
static void remapped(void *opaque)
{
	(void)opaque;
	remaps++;
}

/* Blocks, and what is seen where they are mapped. */
static void blocks(void)
{
	struct memory m;
	uint64_t rom, vram;
	uint32_t version = 0;
	bool readonly;
	uint8_t buf[8];

	check_named("64 MiB once more", memory_init(&m, 64 << 20) == 0);
	m.remapped = remapped;
	check_named("blocks lie behind RAM", memory_add_block(&m, 0x20000, &rom) == 0 && rom == 64 << 20 &&
	      memory_add_block(&m, 100, &vram) == 0 && vram == rom + 0x20000 && m.end == vram + PAGE_SIZE);
	check_named("too large, or nothing", memory_add_block(&m, MEMORY_BLOCKS_MAX, &vram) == -ENOSPC &&
	      memory_add_block(&m, 0, &vram) == -EINVAL && vram == rom + 0x20000);
	check_named("not mapped, not seen", memory_hva(&m, 0xfffe0000, 1) == NULL &&
		    memory_offset_to_gpa(&m, rom) == MEMORY_NOT_RAM);
	check_named("mapped", memory_map(&m, 0xfffe0000, 0x20000, rom, true) == 0 &&
		    memory_offset(&m, 0xfffffff0, 16) == rom + 0x1fff0);
	check_named("whoever looks knows", remaps == 1 && memory_maps_changed(&m, &version) &&
		    !memory_maps_changed(&m, &version));
	check_named("no byte beside it", memory_hva(&m, 0xfffdffff, 2) == NULL &&
		    memory_hva(&m, 0xfffffff0, 17) == NULL);
	check_named("read-only", memory_offset_writable(&m, 0xfffe0000, 1) == MEMORY_NOT_RAM &&
	      memory_write(&m, 0xfffe0000, "x", 1) == -EFAULT && memory_fill(&m, 0xfffe0000, 1, 1) == -EFAULT);
	memory_block_write(&m, rom + 0x10000, "0123", 4);
	check_named("its owner writes", memory_read(&m, 0xffff0000, buf, 4) == 0 && memcmp(buf, "0123", 4) == 0 &&
	      (m.state[(rom + 0x10000) >> PAGE_SHIFT] & PAGE_DIRTY));

	memory_write(&m, 0xf0000, "ABCD", 4);
	check_named("over RAM below 1 MiB", memory_map(&m, 0xe0000, 0x20000, rom, true) == 0 &&
	      memory_read(&m, 0xf0000, buf, 4) == 0 && memcmp(buf, "0123", 4) == 0);
	check_named("a span over its edge is none", memory_hva(&m, 0xdffff, 2) == NULL &&
		    memory_hva(&m, 0xdf000, 0x1000) != NULL &&
	      memory_hva(&m, 0xfffff, 2) == NULL);
	check_named("the same bytes in two places", memory_offset(&m, 0xf0000, 1) == memory_offset(&m, 0xffff0000, 1));
	memory_unmap(&m, 0xe0000, 0x20000, rom);
	check_named("RAM again", memory_read(&m, 0xf0000, buf, 4) == 0 && memcmp(buf, "ABCD", 4) == 0);
	check_named("RAM, read-only", memory_map(&m, 0xf0000, 0x4000, 0xf0000, true) == 0 &&
	      memory_offset_rights(&m, 0xf0000, 4, &readonly) == 0xf0000 && readonly &&
	      memory_offset_rights(&m, 0xf4000, 4, &readonly) == 0xf4000 && !readonly);
	check_named("a span with a part that is read-only",
		    memory_offset_rights(&m, 0xf3fff, 2, &readonly) == 0xf3fff && readonly &&
	      memory_offset(&m, 0xc0000, 0x100000) == 0xc0000);
	check_named("a hole", memory_map(&m, 0xc0000, 0x4000, MEMORY_NOT_RAM, false) == 0 &&
		    memory_hva(&m, 0xc0000, 1) == NULL &&
	      memory_hva(&m, 0xc4000, 1) == m.base + 0xc4000 && memory_hva(&m, 0x100000, 1) == m.base + 0x100000);

	check_named("RAM comes first", memory_map(&m, 0x200000, 0x1000, vram, false) == 0 &&
		    memory_offset(&m, 0x200000, 1) == 0x200000);
	check_named("mapped over its end", memory_map(&m, (64 << 20) - 0x1000, 0x2000, rom, false) == 0 &&
	      memory_offset(&m, (64 << 20) - 1, 1) == (64 << 20) - 1 && memory_offset(&m, 64 << 20, 1) == rom + 0x1000);
	check_named("the older one is seen", memory_map(&m, 0xfff00000, 0x100000, 0, false) == 0 &&
	      memory_offset(&m, 0xfffe0000, 1) == rom && memory_offset(&m, 0xfffdf000, 1) == 0xdf000);
	memory_unmap(&m, 0xfffe0000, 0x20000, rom);
	check_named("and when it goes, the younger", memory_offset(&m, 0xfffe0000, 0x20000) == 0xe0000);
	check_named("what is not there is not unmapped",
		    (memory_unmap(&m, 0xfff00000, 0x100000, 0x1000), memory_offset(&m, 0xfff00000, 1) == 0));
	check_named("bad ones", memory_map(&m, 0x1234, 0x1000, rom, false) == -EINVAL &&
		    memory_map(&m, 0, 0, rom, false) == -EINVAL &&
	      memory_map(&m, 0, 0x1000, m.end, false) == -EINVAL && memory_map(&m, UINT64_MAX & PAGE_MASK, 0x1000, rom, false) == -EINVAL &&
	      memory_map(&m, 0, 0x10000, rom + 0x18000, false) == -EINVAL);
	unsigned n = 0;
	while (memory_map(&m, 0xd0000000 + n * 0x2000ull, 0x1000, rom, false) == 0)
		n++;
	check_named("so many, and no more", n + m.maps > n && m.maps == MEMORY_MAPS_MAX &&
	      memory_offset(&m, 0xd0000000 + (n - 1) * 0x2000ull, 0x1000) == rom);
	memory_unmap(&m, 0xd0000000, 0x1000, rom);
	check_named("a wide one under all of them is cut up",
		    memory_map(&m, 0xd0001000, 0x18000, rom + 0x8000, false) == 0 &&
	      memory_offset(&m, 0xd0001000, 0x1000) == rom + 0x8000 && memory_offset(&m, 0xd0002000, 0x1000) == rom &&
	      memory_offset(&m, 0xd0005000, 0x1000) == rom + 0xc000 && m.views <= 2 * MEMORY_MAPS_MAX);
	memory_free(&m);
}

static void refusals(void)
{
	struct memory m;

	check_named("no memory", memory_init(&m, 0) == -EINVAL);
	check_named("half a page", memory_init(&m, 2048) == -EINVAL);
	check_named("more than there is", memory_init(&m, 1ull << 50) == -ENOMEM);
	check_named("more than can be counted", memory_init(&m, UINT64_MAX & PAGE_MASK) == -EINVAL);
}

static void topics(void)
{
	const char *bad = NULL;
	int len = 0;

	check_named("topics",
	      log_enable("mmu,exc", &bad, &len) == 0 && log_on(LOG_MMU) && log_on(LOG_EXC) && !log_on(LOG_BT));
	check_named("an unknown topic",
	      log_enable("bt,weather,pic", &bad, &len) == -EINVAL && len == 7 && memcmp(bad, "weather", 7) == 0);
	check_named("it turns nothing on", !log_on(LOG_BT));
	check_named("no topic", log_enable("", &bad, &len) == -EINVAL && log_enable("mmu,", &bad, &len) == -EINVAL);
	check_named("a topic's beginning is not the topic", log_enable("mm", &bad, &len) == -EINVAL);
	check_named("all", log_enable("all", &bad, &len) == 0 && log_on(LOG_BT) && log_on(LOG_KVMPV));
}

/* What memory_pieces says, against memory_offset_rights page by page. */
static bool pieces_agree(const struct memory *m)
{
	struct memory_map piece[MEMORY_PIECES_MAX];
	uint32_t version;
	unsigned count = memory_pieces(m, piece, &version), at = 0;
	uint64_t end = MEMORY_HIGH_BASE + m->size - m->low + 16 * PAGE_SIZE;

	if (version != m->maps_version || count == 0 || count >= MEMORY_PIECES_MAX)
		return false;
	for (uint64_t gpa = 0; gpa < end; gpa += gpa < 0x200000 || gpa >= 0xfff00000 ? PAGE_SIZE : 16 * PAGE_SIZE) {
		bool readonly;
		uint64_t offset = memory_offset_rights(m, gpa, PAGE_SIZE, &readonly);

		while (at < count && piece[at].gpa + piece[at].len <= gpa)
			at++;
		if (at == count || gpa < piece[at].gpa) {
			if (offset != MEMORY_NOT_RAM)
				return false;
		} else if (offset != piece[at].offset + (gpa - piece[at].gpa) || readonly != piece[at].readonly) {
			return false;
		}
	}
	return true;
}

static void pieces(void)
{
	struct memory_map piece[MEMORY_PIECES_MAX];
	struct memory m;
	uint32_t version;
	uint64_t rom;

	check_named("memory for pieces", memory_init(&m, 3200ull << 20) == 0 && m.low < m.size);
	check_named("RAM: below the VGA window, above it, from 1 MiB, from 4 GiB",
		    memory_pieces(&m, piece, &version) == 4 &&
	      piece[0].len == MEMORY_VGA_BASE && piece[1].gpa == MEMORY_VGA_END &&
	      piece[1].len == MEMORY_OVERLAY_END - MEMORY_VGA_END && piece[2].gpa == MEMORY_OVERLAY_END &&
	      piece[2].len == m.low - MEMORY_OVERLAY_END && piece[3].gpa == MEMORY_HIGH_BASE && piece[3].offset == m.low);
	check_named("pieces of RAM", pieces_agree(&m));
	check_named("a block", memory_add_block(&m, 0x40000, &rom) == 0);
	memory_map(&m, 0xfffc0000, 0x40000, rom, true);
	memory_map(&m, 0xe0000, 0x20000, rom + 0x20000, true);
	check_named("pieces with a ROM, twice", pieces_agree(&m) && memory_pieces(&m, piece, &version) == 6);
	memory_map(&m, 0xc8000, 0x4000, MEMORY_NOT_RAM, false);
	memory_map(&m, 0xca000, 0x8000, rom, false);
	memory_map(&m, 0xa0000, 0x8000, rom + 0x8000, false);
	check_named("pieces with a hole and overlaps", pieces_agree(&m));
	memory_unmap(&m, 0xe0000, 0x20000, rom + 0x20000);
	memory_map(&m, 0xf0000, 0x10000, 0x50000, true);
	check_named("pieces with RAM shown again, read-only", pieces_agree(&m));
	memory_free(&m);
}

int main(void)
{
	small();
	pieces();
	large();
	blocks();
	refusals();
	topics();
	return summary();
}
