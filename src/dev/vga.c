/*
 * The VGA's registers, its memory as the processor sees it, and its PCI function. See vga.h.
 *
 * The linear frame buffer (BAR 0) is memory to the guest. Accesses to the window at 0xa0000 come here one by one and
 * go through the graphics controller, unless the registers are such that it would change nothing: 256-color modes with
 * chained planes, and the banks of VBE modes, are mapped there as well.
 *
 * Not as in the adapter: there is no vertical interrupt; a DAC or attribute access while the picture is shown has no
 * visible effect; the feature connector has nothing on it. Accesses while PCI's command register has them off read as
 * ones.
 *
 * Under vm->lock. Sources: see vga.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/vga_edid.h"
#include "dev/vga_state.h"
#include "util/log.h"
#include "util/timer.h"

#define PORT_BASE 0x3b0u
#define PORT_COUNT 0x30u
#define VBE_PORT 0x1ceu
#define VBE_PORT_COUNT 4u

#define WINDOW_BASE 0xa0000u
#define WINDOW_SIZE 0x20000u
#define BANK_SIZE 0x10000u
#define WINDOW_BY_EXITS UINT64_MAX

#define PLANE_SIZE (VGA_MEMORY_SIZE / 4)

#define MMIO_SIZE 4096u
#define MMIO_PORTS 0x400u
#define MMIO_PORTS_END 0x420u
#define MMIO_VBE 0x500u
#define MMIO_VBE_END (MMIO_VBE + 2u * VBE_COUNT)
#define MMIO_EXTENDED 0x600u /* its size; then how the frame buffer's words lie */
#define MMIO_EXTENDED_SIZE 8u
#define LITTLE_ENDIAN_WORDS 0x1e1e1e1eu

#define VBE_ID_FIRST 0xb0c0u
#define VBE_ID_LAST 0xb0c5u
#define VBE_BPP_MAX 32u

/* Input status 1, by time: 70 frames of 449 lines in a second, as in 400-line modes. */
#define FRAME_NS 14285714ull
#define LINE_NS 31817ull
#define FRAME_SHOWN_NS (400 * LINE_NS)
#define RETRACE_FROM_NS (412 * LINE_NS)
#define RETRACE_TO_NS (414 * LINE_NS)
#define LINE_SHOWN_NS 25422ull
#define STATUS_0_SENSE 0x10 /* there is a monitor */
#define STATUS_1_BLANK 0x01
#define STATUS_1_RETRACE 0x08

/* ---- display memory as the processor sees it ---- */

/* Every bit of `planes` as a byte. */
static uint32_t expand(unsigned planes)
{
	return (planes & 1 ? 0xffu : 0) | (planes & 2 ? 0xff00u : 0) | (planes & 4 ? 0xff0000u : 0) |
	       (planes & 8 ? 0xff000000u : 0);
}

static uint32_t replicate(uint8_t value) { return value * 0x01010101u; }

/* Offset of an address of [0xa0000, 0xc0000) in the window that is chosen. False: it is not in it. */
static bool window_offset(const struct vga *v, uint32_t *address)
{
	static const struct { uint32_t base, size; } map[4] = {
		{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000},
	};
	unsigned n = v->gr[GR_MISC] >> 2 & 3;

	if (!v->window_on || !(v->misc & MISC_MEMORY))
		return false;
	if (*address < map[n].base || *address - map[n].base >= map[n].size)
		return false;
	*address -= map[n].base;
	if (vga_vbe_on(v))
		*address += v->vbe[VBE_BANK] * BANK_SIZE;
	return true;
}

static uint32_t load(const struct vga *v, uint32_t offset)
{
	uint32_t word;

	memcpy(&word, v->memory + 4 * (size_t)offset, sizeof word);
	return word;
}

static bool linear(const struct vga *v)
{
	return (v->seq[SEQ_MEMORY_MODE] & MEMORY_MODE_CHAIN_4) || (vga_vbe_on(v) && v->vbe[VBE_BPP] != 4);
}

static uint64_t window_read(void *dev, uint64_t at, unsigned size)
{
	struct vga *v = dev;
	uint32_t address = (uint32_t)at, offset;
	unsigned plane;

	(void)size;
	if (!window_offset(v, &address))
		return 0xff;
	if (linear(v)) {
		plane = address & 3;
		offset = address >> 2;
	} else if (v->gr[GR_MODE] & GR_MODE_ODD_EVEN) {
		plane = (v->gr[GR_READ_MAP] & 2) | (address & 1);
		offset = address >> 1;
	} else {
		plane = v->gr[GR_READ_MAP] & 3;
		offset = address;
	}
	if (offset >= PLANE_SIZE)
		return 0xff;
	v->latch = load(v, offset);
	if (!(v->gr[GR_MODE] & GR_MODE_READ_COMPARE) || linear(v))
		return (uint8_t)(v->latch >> 8 * plane);
	uint32_t differs = (v->latch ^ expand(v->gr[GR_COLOR_COMPARE])) & expand(v->gr[GR_DONT_CARE]);
	return (uint8_t)~(differs | differs >> 8 | differs >> 16 | differs >> 24);
}

/* What the graphics controller makes of a byte that the processor writes. */
static uint32_t graphics_controller(const struct vga *v, uint8_t value)
{
	unsigned mode = v->gr[GR_MODE] & 3, count = v->gr[GR_ROTATE] & 7;
	uint32_t mask = replicate(v->gr[GR_BIT_MASK]), data, set;

	if (mode == 1)
		return v->latch;
	if (mode == 0 || mode == 3)
		value = (uint8_t)(value >> count | value << (8 - count));
	if (mode == 0) {
		set = expand(v->gr[GR_ENABLE_SET_RESET]);
		data = (replicate(value) & ~set) | (expand(v->gr[GR_SET_RESET]) & set);
	} else if (mode == 2) {
		data = expand(value);
	} else {
		data = expand(v->gr[GR_SET_RESET]);
		mask &= replicate(value);
	}
	switch (v->gr[GR_ROTATE] >> 3 & 3) {
	case 1:
		data &= v->latch;
		break;
	case 2:
		data |= v->latch;
		break;
	case 3:
		data ^= v->latch;
		break;
	}
	return (data & mask) | (v->latch & ~mask);
}

static void window_write(void *dev, uint64_t at, uint64_t value, unsigned size)
{
	struct vga *v = dev;
	uint32_t address = (uint32_t)at, offset, planes = v->seq[SEQ_MAP_MASK], data;

	(void)size;
	if (!window_offset(v, &address))
		return;
	if (linear(v)) {
		planes &= 1u << (address & 3);
		offset = address >> 2;
	} else if (!(v->seq[SEQ_MEMORY_MODE] & MEMORY_MODE_SEQUENTIAL)) {
		planes &= address & 1 ? 0x0a : 0x05;
		offset = address >> 1;
	} else {
		offset = address;
	}
	if (offset >= PLANE_SIZE)
		return;
	data = (graphics_controller(v, (uint8_t)value) & expand(planes)) | (load(v, offset) & ~expand(planes));
	memory_block_write(v->config.memory, v->offset + 4 * (uint64_t)offset, &data, sizeof data);
}

static const struct bus_ops window_ops = {.read = window_read, .write = window_write, .max_size = 1};

/* True when a byte that is written arrives in memory as it is, and the next one right behind it. */
static bool window_is_plain(const struct vga *v)
{
	if (!v->window_on || !(v->misc & MISC_MEMORY) || (v->gr[GR_MISC] >> 2 & 3) > 1 || !linear(v))
		return false;
	return v->seq[SEQ_MAP_MASK] == 0x0f && (v->gr[GR_MODE] & 3) == 0 && v->gr[GR_ENABLE_SET_RESET] == 0 &&
	       v->gr[GR_ROTATE] == 0 && v->gr[GR_BIT_MASK] == 0xff;
}

/* After a register was written: maps the window, or takes it back. */
static void update_window(struct vga *v)
{
	uint64_t want = WINDOW_BY_EXITS;

	if (window_is_plain(v)) {
		want = vga_vbe_on(v) ? (uint64_t)v->vbe[VBE_BANK] * BANK_SIZE : 0;
		if (want + BANK_SIZE > VGA_MEMORY_SIZE)
			want = WINDOW_BY_EXITS;
	}
	if (want == v->window)
		return;
	if (v->window != WINDOW_BY_EXITS)
		memory_unmap(v->config.memory, WINDOW_BASE, BANK_SIZE, v->offset + v->window);
	v->window = want;
	if (want != WINDOW_BY_EXITS &&
	    memory_map(v->config.memory, WINDOW_BASE, BANK_SIZE, v->offset + want, false) < 0)
		v->window = WINDOW_BY_EXITS;
}

/* ---- IBM's registers ---- */

static void attribute_write(struct vga *v, uint8_t value)
{
	static const uint8_t mask[ATTR_COUNT] = {
		[0 ... 15] = 0x3f, [ATTR_MODE] = 0xef, [ATTR_OVERSCAN] = 0xff, [ATTR_PLANES] = 0x3f,
		[ATTR_PANNING] = 0x0f, [ATTR_COLOR_SELECT] = 0x0f,
	};
	unsigned i = v->attr_index & 0x1f;

	if (!v->attr_data)
		v->attr_index = value & 0x3f;
	else if (i < ATTR_COUNT && (i >= 16 || !(v->attr_index & ATTR_INDEX_SCREEN_ON)))
		v->attr[i] = value & mask[i];
	v->attr_data = !v->attr_data;
}

static void sequencer_write(struct vga *v, uint8_t value)
{
	static const uint8_t mask[SEQ_COUNT] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};

	if (v->seq_index < SEQ_COUNT)
		v->seq[v->seq_index] = value & mask[v->seq_index];
}

static void graphics_write(struct vga *v, uint8_t value)
{
	static const uint8_t mask[GR_COUNT] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};

	if (v->gr_index < GR_COUNT)
		v->gr[v->gr_index] = value & mask[v->gr_index];
}

static void crtc_write(struct vga *v, uint8_t value)
{
	unsigned i = v->crtc_index;

	if (i >= CRTC_COUNT)
		return;
	if (i <= CRTC_OVERFLOW && (v->crtc[CRTC_V_RETRACE_END] & CRTC_PROTECT)) {
		if (i == CRTC_OVERFLOW) /* the line compare bit is not protected */
			v->crtc[i] = (v->crtc[i] & 0xef) | (value & 0x10);
		return;
	}
	v->crtc[i] = value;
}

static void dac_write(struct vga *v, uint8_t value)
{
	v->dac_new[v->dac_component] = v->vbe[VBE_ENABLE] & VBE_8_BIT_DAC ? value : value & 0x3f;
	if (++v->dac_component < 3)
		return;
	memcpy(v->dac[v->dac_index++], v->dac_new, 3);
	v->dac_component = 0;
}

static uint8_t dac_read(struct vga *v)
{
	uint8_t value = v->dac[v->dac_index][v->dac_component];

	if (++v->dac_component == 3) {
		v->dac_component = 0;
		v->dac_index++;
	}
	return value;
}

static uint8_t status_1(struct vga *v)
{
	uint64_t frame = timer_queue_now(v->config.timers) % FRAME_NS;

	v->attr_data = false;
	if (frame >= RETRACE_FROM_NS && frame < RETRACE_TO_NS)
		return STATUS_1_BLANK | STATUS_1_RETRACE;
	return frame >= FRAME_SHOWN_NS || frame % LINE_NS >= LINE_SHOWN_NS ? STATUS_1_BLANK : 0;
}

/* Ports 0x3bx and 0x3dx are the same registers; which of them answer is a bit. */
static bool port_answers(const struct vga *v, unsigned port)
{
	bool color = v->misc & MISC_COLOR;

	return v->ports_on && (port >= 0x3d0 ? color : port < 0x3c0 ? !color : true);
}

static uint8_t port_read(struct vga *v, unsigned port)
{
	switch (port) {
	case 0x3c0:
		return v->attr_index;
	case 0x3c1:
		return (v->attr_index & 0x1f) < ATTR_COUNT ? v->attr[v->attr_index & 0x1f] : 0;
	case 0x3c2:
		return STATUS_0_SENSE;
	case 0x3c4:
		return v->seq_index;
	case 0x3c5:
		return v->seq_index < SEQ_COUNT ? v->seq[v->seq_index] : 0;
	case 0x3c6:
		return v->dac_mask;
	case 0x3c7:
		return v->dac_state;
	case 0x3c8:
		return v->dac_index;
	case 0x3c9:
		return dac_read(v);
	case 0x3ca:
		return v->feature;
	case 0x3cc:
		return v->misc;
	case 0x3ce:
		return v->gr_index;
	case 0x3cf:
		return v->gr_index < GR_COUNT ? v->gr[v->gr_index] : 0;
	case 0x3b4:
	case 0x3d4:
		return v->crtc_index;
	case 0x3b5:
	case 0x3d5:
		return v->crtc_index < CRTC_COUNT ? v->crtc[v->crtc_index] : 0;
	case 0x3ba:
	case 0x3da:
		return status_1(v);
	}
	return 0xff;
}

static void port_write(struct vga *v, unsigned port, uint8_t value)
{
	switch (port) {
	case 0x3c0:
		attribute_write(v, value);
		break;
	case 0x3c2:
		v->misc = value & 0xef;
		break;
	case 0x3c4:
		v->seq_index = value & 7;
		break;
	case 0x3c5:
		sequencer_write(v, value);
		break;
	case 0x3c6:
		v->dac_mask = value;
		break;
	case 0x3c7:
	case 0x3c8:
		v->dac_index = value;
		v->dac_component = 0;
		v->dac_state = port == 0x3c7 ? 3 : 0;
		break;
	case 0x3c9:
		dac_write(v, value);
		break;
	case 0x3ce:
		v->gr_index = value & 15;
		break;
	case 0x3cf:
		graphics_write(v, value);
		break;
	case 0x3b4:
	case 0x3d4:
		v->crtc_index = value & 0x3f;
		break;
	case 0x3b5:
	case 0x3d5:
		crtc_write(v, value);
		break;
	case 0x3ba:
	case 0x3da:
		v->feature = value & 3;
		break;
	}
	update_window(v);
}

static uint64_t ports_read(void *dev, uint64_t offset, unsigned size)
{
	struct vga *v = dev;
	unsigned port = PORT_BASE + (unsigned)offset;

	(void)size;
	return port_answers(v, port) ? port_read(v, port) : 0xff;
}

static void ports_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct vga *v = dev;
	unsigned port = PORT_BASE + (unsigned)offset;

	(void)size;
	if (port_answers(v, port))
		port_write(v, port, (uint8_t)value);
}

static const struct bus_ops ports_ops = {.read = ports_read, .write = ports_write, .max_size = 1};

/* ---- VBE ---- */

static unsigned bounded(unsigned value, unsigned low, unsigned high)
{
	return value < low ? low : value > high ? high : value;
}

/* Makes of what the guest asked for something that can be shown: all of it lies inside display memory. */
static void vbe_bound(struct vga *v)
{
	static const uint8_t depths[] = {4, 8, 15, 16, 24, 32};
	uint16_t *r = v->vbe;
	unsigned depth = 8;

	for (unsigned i = 0; i < sizeof depths; i++)
		if (depths[i] == r[VBE_BPP])
			depth = r[VBE_BPP];
	r[VBE_BPP] = (uint16_t)depth;
	r[VBE_WIDTH] = (uint16_t)bounded(r[VBE_WIDTH] & ~7u, 8, DISPLAY_WIDTH_MAX);
	/* In pixels, of memory as a whole; planes and 15 bits count as 4 and 16. */
	unsigned pixels = VGA_MEMORY_SIZE / (depth == 4 ? 1 : (depth + 7) / 8) * (depth == 4 ? 2 : 1);
	r[VBE_VIRTUAL_WIDTH] = (uint16_t)bounded(r[VBE_VIRTUAL_WIDTH] & ~7u, r[VBE_WIDTH], 0x8000);
	unsigned lines = pixels / r[VBE_VIRTUAL_WIDTH];
	r[VBE_HEIGHT] = (uint16_t)bounded(r[VBE_HEIGHT], 1, lines < DISPLAY_HEIGHT_MAX ? lines : DISPLAY_HEIGHT_MAX);
	r[VBE_VIRTUAL_HEIGHT] = (uint16_t)(lines < 0xffff ? lines : 0xffff);
	r[VBE_X_OFFSET] = (uint16_t)bounded(r[VBE_X_OFFSET], 0, (unsigned)r[VBE_VIRTUAL_WIDTH] - r[VBE_WIDTH]);
	r[VBE_Y_OFFSET] = (uint16_t)bounded(r[VBE_Y_OFFSET], 0, (unsigned)r[VBE_VIRTUAL_HEIGHT] - r[VBE_HEIGHT]);
}

static void vbe_clear(struct vga *v)
{
	static const uint8_t zeros[4096];
	uint64_t size = (uint64_t)vga_vbe_pitch(v) * v->vbe[VBE_HEIGHT];

	for (uint64_t at = 0; at < size; at += sizeof zeros)
		memory_block_write(v->config.memory, v->offset + at, zeros, sizeof zeros);
}

static void vbe_enable(struct vga *v, uint16_t value)
{
	bool was_on = vga_vbe_on(v);

	v->vbe[VBE_ENABLE] = value & (VBE_ENABLED | VBE_CAPABILITIES | VBE_8_BIT_DAC | VBE_LINEAR | VBE_KEEP_MEMORY);
	v->vbe[VBE_BANK] = 0;
	if (!(value & VBE_ENABLED) || was_on)
		return;
	v->vbe[VBE_VIRTUAL_WIDTH] = v->vbe[VBE_X_OFFSET] = v->vbe[VBE_Y_OFFSET] = 0;
	vbe_bound(v);
	if (!(value & VBE_KEEP_MEMORY))
		vbe_clear(v);
	/* The IBM registers that the picture and the window go by in these modes. */
	v->gr[GR_MISC] = (v->gr[GR_MISC] & ~0x0cu) | 0x04 | GR_MISC_GRAPHICS;
	v->seq[SEQ_MAP_MASK] = 0x0f;
	v->seq[SEQ_MEMORY_MODE] |= MEMORY_MODE_SEQUENTIAL;
	if (v->vbe[VBE_BPP] == 4) {
		v->seq[SEQ_MEMORY_MODE] &= (uint8_t)~MEMORY_MODE_CHAIN_4;
		v->gr[GR_MODE] &= (uint8_t)~(GR_MODE_256_COLORS | GR_MODE_SHIFT_INTERLEAVE);
	} else {
		v->seq[SEQ_MEMORY_MODE] |= MEMORY_MODE_CHAIN_4;
		v->gr[GR_MODE] = (v->gr[GR_MODE] & ~GR_MODE_SHIFT_INTERLEAVE) | GR_MODE_256_COLORS;
	}
	LOG(LOG_VGA, "mode %ux%u, %u bits a pixel", v->vbe[VBE_WIDTH], v->vbe[VBE_HEIGHT], v->vbe[VBE_BPP]);
}

static uint16_t vbe_read(const struct vga *v, unsigned i)
{
	if (v->vbe[VBE_ENABLE] & VBE_CAPABILITIES) {
		if (i == VBE_WIDTH)
			return DISPLAY_WIDTH_MAX;
		if (i == VBE_HEIGHT)
			return DISPLAY_HEIGHT_MAX;
		if (i == VBE_BPP)
			return VBE_BPP_MAX;
	}
	if (i == VBE_MEMORY_64K)
		return VGA_MEMORY_SIZE / BANK_SIZE;
	return i < VBE_COUNT ? v->vbe[i] : 0;
}

void vga_vbe_write(struct vga *v, unsigned i, uint16_t value)
{
	switch (i) {
	case VBE_ID:
		if (value >= VBE_ID_FIRST && value <= VBE_ID_LAST)
			v->vbe[i] = value;
		break;
	case VBE_ENABLE:
		vbe_enable(v, value);
		break;
	case VBE_BANK:
		v->vbe[i] = value & (VGA_MEMORY_SIZE / BANK_SIZE - 1);
		break;
	case VBE_WIDTH:
	case VBE_HEIGHT:
	case VBE_BPP:
	case VBE_VIRTUAL_WIDTH:
	case VBE_X_OFFSET:
	case VBE_Y_OFFSET:
		v->vbe[i] = value;
		if (vga_vbe_on(v))
			vbe_bound(v);
		break;
	}
	update_window(v);
}

/* The word at 0x1ce is the index, that at 0x1d0 and, unaligned, 0x1cf the data. */
static uint64_t vbe_port_read(void *dev, uint64_t offset, unsigned size)
{
	struct vga *v = dev;

	if (!v->ports_on)
		return ~0ull;
	return (offset ? vbe_read(v, v->vbe_index) : v->vbe_index) & (size == 1 ? 0xff : 0xffff);
}

static void vbe_port_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct vga *v = dev;

	(void)size;
	if (!v->ports_on)
		return;
	if (offset)
		vga_vbe_write(v, v->vbe_index, (uint16_t)value);
	else
		v->vbe_index = (uint16_t)value;
}

static const struct bus_ops vbe_ops = {.read = vbe_port_read, .write = vbe_port_write, .max_size = 2, .unaligned = true};

/* ---- BAR 2: the same registers in memory ---- */

static uint64_t mmio_read(void *dev, uint64_t offset, unsigned size)
{
	struct vga *v = dev;

	if (offset < sizeof v->edid) {
		uint64_t value = 0;

		for (unsigned i = 0; i < size && offset + i < sizeof v->edid; i++)
			value |= (uint64_t)v->edid[offset + i] << 8 * i;
		return value;
	}
	if (offset >= MMIO_PORTS && offset < MMIO_PORTS_END) {
		unsigned port = 0x3c0 + (unsigned)offset - MMIO_PORTS;
		uint64_t value = port_read(v, port);

		for (unsigned i = 1; i < size && port + i < 0x3e0; i++)
			value |= (uint64_t)port_read(v, port + i) << 8 * i;
		return value;
	}
	if (offset >= MMIO_VBE && offset < MMIO_VBE_END)
		return vbe_read(v, (unsigned)(offset - MMIO_VBE) / 2);
	if (offset == MMIO_EXTENDED)
		return MMIO_EXTENDED_SIZE;
	return offset == MMIO_EXTENDED + 4 ? LITTLE_ENDIAN_WORDS : 0;
}

static void mmio_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct vga *v = dev;

	if (offset >= MMIO_PORTS && offset < MMIO_PORTS_END) {
		unsigned port = 0x3c0 + (unsigned)offset - MMIO_PORTS;

		for (unsigned i = 0; i < size && port + i < 0x3e0; i++)
			port_write(v, port + i, (uint8_t)(value >> 8 * i));
	} else if (offset >= MMIO_VBE && offset < MMIO_VBE_END && !(offset & 1)) {
		vga_vbe_write(v, (unsigned)(offset - MMIO_VBE) / 2, (uint16_t)value);
	}
	/* The frame buffer's words are little-endian and stay so. */
}

static const struct bus_ops mmio_ops = {.read = mmio_read, .write = mmio_write, .max_size = 4};

/* ---- life ---- */

static void config_written(void *opaque, unsigned offset, unsigned size)
{
	struct vga *v = opaque;

	(void)offset;
	(void)size;
	v->ports_on = v->pci.config[4] & 1;
	v->window_on = v->pci.config[4] & 2;
	update_window(v);
}

static const struct pci_device_ops pci_ops = {.config_written = config_written};

static int new_function(struct vga *v)
{
	static const struct pci_info info = {
		.name = "vga",
		.vendor = 0x1234,
		.device = 0x1111,
		.subsystem_vendor = 0x1af4,
		.subsystem = 0x1100,
		.class_code = 0x030000,
		.revision = 2, /* the extended registers are there */
	};
	int r = pci_device_init(&v->pci, v->config.pci, v->config.devfn, &info, &pci_ops, v);

	if (r < 0)
		return r;
	pci_add_memory_bar(&v->pci, 0, PCI_BAR_MEMORY32_PREFETCH, VGA_MEMORY_SIZE, v->offset);
	pci_add_bar(&v->pci, 2, PCI_BAR_MEMORY32, MMIO_SIZE, &mmio_ops, v);
	return v->config.rom ? pci_add_rom(&v->pci, v->config.rom) : 0;
}

struct vga *vga_new(const struct vga_config *config)
{
	struct vga *v = calloc(1, sizeof *v);
	int r;

	if (!v)
		return NULL;
	v->config = *config;
	v->window = WINDOW_BY_EXITS;
	v->vbe[VBE_ID] = VBE_ID_LAST;
	v->misc = MISC_COLOR;
	v->dac_mask = 0xff;
	v->ports_on = v->window_on = !config->pci;
	vga_edid_fill(v->edid);
	if ((r = memory_add_block(config->memory, VGA_MEMORY_SIZE, &v->offset)) < 0)
		goto fail;
	v->memory = config->memory->base + v->offset;
	if ((r = bus_register(config->pio, PORT_BASE, PORT_COUNT, &ports_ops, v, "vga")) < 0 ||
	    (r = bus_register(config->pio, VBE_PORT, VBE_PORT_COUNT, &vbe_ops, v, "vbe")) < 0 ||
	    (r = bus_register(config->mmio, WINDOW_BASE, WINDOW_SIZE, &window_ops, v, "vga-window")) < 0)
		goto fail;
	if (config->pci && (r = new_function(v)) < 0)
		goto fail;
	display_attach(config->display, &vga_source, v);
	return v;
fail:
	pci_device_free(&v->pci);
	free(v);
	errno = -r;
	return NULL;
}

void vga_free(struct vga *v)
{
	if (!v)
		return;
	display_detach(v->config.display);
	pci_device_free(&v->pci);
	free(v);
}
