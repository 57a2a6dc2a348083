/*
 * ACPI tables. See acpi.h. Built in a buffer, then copied into guest memory.
 *
 * Called while the machine is built. Source: ACPI specification 5.0, chapter 5.2 "ACPI System Description
 * Tables"; 5.2.9 FADT, 5.2.12 MADT; PCI Firmware Specification 3.0, 4.1.2 MCFG;
 * IA-PC HPET Specification 1.0a, 3.2.4.
 */
#include "boot/acpi.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/dsdt.h"
#include "dev/hpet.h"
#include "dev/pm.h"
#include "dev/reset.h"
#include "dev/rtc.h"
#include "mem/memory.h"
#include "util/log.h"

#define OEM_ID "RNGSID"
#define OEM_TABLE_ID "RINGSIDE"
#define CREATOR_ID "RGSD"
#define TABLE_ALIGN 16
#define FACS_ALIGN 64

#define PACKED __attribute__((packed))

struct rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} PACKED;
_Static_assert(sizeof(struct rsdp) == 36, "RSDP");

struct header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} PACKED;
_Static_assert(sizeof(struct header) == 36, "table header");

enum { GAS_SYSTEM_IO = 1, GAS_ACCESS_BYTE = 1, GAS_ACCESS_WORD, GAS_ACCESS_DWORD };

struct generic_address {
	uint8_t space, bit_width, bit_offset, access_size;
	uint64_t address;
} PACKED;

struct fadt {
	struct header header;
	uint32_t firmware_ctrl, dsdt;
	uint8_t reserved0, preferred_pm_profile;
	uint16_t sci_int;
	uint32_t smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	uint32_t pm1a_evt_blk, pm1b_evt_blk, pm1a_cnt_blk, pm1b_cnt_blk, pm2_cnt_blk, pm_tmr_blk, gpe0_blk, gpe1_blk;
	uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_blk_len, gpe1_blk_len, gpe1_base, cst_cnt;
	uint16_t p_lvl2_lat, p_lvl3_lat, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t iapc_boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct generic_address reset_reg;
	uint8_t reset_value, reserved2[3];
	uint64_t x_firmware_ctrl, x_dsdt;
	struct generic_address x_pm1a_evt_blk, x_pm1b_evt_blk, x_pm1a_cnt_blk, x_pm1b_cnt_blk, x_pm2_cnt_blk,
		x_pm_tmr_blk, x_gpe0_blk, x_gpe1_blk, sleep_control_reg, sleep_status_reg;
} PACKED;
_Static_assert(sizeof(struct fadt) == 268, "FADT revision 5");

#define FADT_REVISION 5
#define FADT_WBINVD (1u << 0)
#define FADT_PROC_C1 (1u << 2)
#define FADT_NO_SLEEP_BUTTON (1u << 5)
#define FADT_NO_FIXED_RTC (1u << 6)
#define FADT_TMR_VAL_EXT (1u << 8)
#define FADT_RESET_REG_SUP (1u << 10)
#define BOOT_ARCH_LEGACY_DEVICES (1u << 0)
#define BOOT_ARCH_8042 (1u << 1)
#define BOOT_ARCH_NO_VGA (1u << 2)
#define NO_C2_LATENCY 0xfff
#define NO_C3_LATENCY 0xffff

struct facs {
	char signature[4];
	uint32_t length, hardware_signature, waking_vector, global_lock, flags;
	uint64_t x_waking_vector;
	uint8_t version, reserved0[3];
	uint32_t ospm_flags;
	uint8_t reserved1[24];
} PACKED;
_Static_assert(sizeof(struct facs) == 64, "FACS");

struct madt {
	struct header header;
	uint32_t lapic_base, flags;
} PACKED;
#define MADT_REVISION 3
#define MADT_PCAT_COMPAT 1u /* there are 8259s */

struct madt_lapic {
	uint8_t type, length, uid, apic_id;
	uint32_t flags;
} PACKED;
struct madt_ioapic {
	uint8_t type, length, id, reserved;
	uint32_t address, gsi_base;
} PACKED;
struct madt_override {
	uint8_t type, length, bus, source;
	uint32_t gsi;
	uint16_t flags;
} PACKED;
struct madt_lapic_nmi {
	uint8_t type, length, uid;
	uint16_t flags;
	uint8_t lint;
} PACKED;
_Static_assert(sizeof(struct madt_lapic) == 8 && sizeof(struct madt_ioapic) == 12, "MADT");
_Static_assert(sizeof(struct madt_override) == 10 && sizeof(struct madt_lapic_nmi) == 6, "MADT");
enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_LAPIC_NMI = 4 };
#define MADT_LAPIC_ENABLED 1u
#define MADT_ACTIVE_HIGH_LEVEL 0x000d
#define MADT_ALL_PROCESSORS 0xff
#define ISA_IRQ_TIMER 0
#define GSI_TIMER 2

/* ---- the buffer ---- */

struct builder {
	uint8_t *buffer;
	uint64_t gpa, size, len;
	bool failed;
};

/* Room for a table; NULL when there is none. */
static void *reserve(struct builder *b, uint64_t len, uint64_t align)
{
	uint64_t at = (b->len + align - 1) & ~(align - 1);

	if (b->failed || at > b->size || len > b->size - at) {
		b->failed = true;
		return NULL;
	}
	b->len = at + len;
	return b->buffer + at;
}

static uint64_t gpa_of(const struct builder *b, const void *p)
{
	return b->gpa + (uint64_t)((const uint8_t *)p - b->buffer);
}

static uint8_t checksum(const void *p, size_t len)
{
	const uint8_t *byte = p;
	uint8_t sum = 0;

	while (len--)
		sum += *byte++;
	return (uint8_t)-sum;
}

static struct header header(const char *signature, uint8_t revision, size_t length)
{
	struct header h = {.length = (uint32_t)length, .revision = revision, .oem_revision = 1, .creator_revision = 1};

	memcpy(h.signature, signature, sizeof h.signature);
	memcpy(h.oem_id, OEM_ID, sizeof h.oem_id);
	memcpy(h.oem_table_id, OEM_TABLE_ID, sizeof h.oem_table_id);
	memcpy(h.creator_id, CREATOR_ID, sizeof h.creator_id);
	return h;
}

/* Appends a complete table, its checksum filled in. Its GPA; 0 when it does not fit. */
static uint64_t append(struct builder *b, void *table, size_t len)
{
	struct header *h = table;
	void *p = reserve(b, len, TABLE_ALIGN);

	h->checksum = 0;
	h->checksum = checksum(table, len);
	if (!p)
		return 0;
	memcpy(p, table, len);
	return gpa_of(b, p);
}

/* ---- DSDT: its contents are dsdt.c's ---- */

#define DSDT_MAX 32768
#define DSDT_REVISION 2 /* 64-bit integers */

static uint64_t add_dsdt(struct builder *b, const struct acpi_config *c)
{
	uint8_t *buffer = malloc(DSDT_MAX);
	size_t body;
	uint64_t gpa = 0;

	if (!buffer) {
		b->failed = true;
		return 0;
	}
	body = dsdt_write(buffer + sizeof(struct header), DSDT_MAX - sizeof(struct header), c);
	if (!body) {
		b->failed = true;
	} else {
		size_t len = sizeof(struct header) + body;
		struct header h = header("DSDT", DSDT_REVISION, len);

		memcpy(buffer, &h, sizeof h);
		gpa = append(b, buffer, len);
	}
	free(buffer);
	return gpa;
}

/* ---- FACS, FADT, MADT ---- */

static uint64_t add_facs(struct builder *b)
{
	struct facs facs = {.signature = "FACS", .length = sizeof facs, .version = 2};
	void *p = reserve(b, sizeof facs, FACS_ALIGN);

	if (!p)
		return 0;
	memcpy(p, &facs, sizeof facs);
	return gpa_of(b, p);
}

static struct generic_address port(uint16_t address, uint8_t bit_width, uint8_t access_size)
{
	return (struct generic_address){
		.space = GAS_SYSTEM_IO, .bit_width = bit_width, .access_size = access_size, .address = address};
}

static uint64_t add_fadt(struct builder *b, const struct acpi_config *c, uint64_t facs, uint64_t dsdt)
{
	uint16_t event = c->pm_base + PM1A_EVT, control = c->pm_base + PM1A_CNT, timer = c->pm_base + PM_TMR;
	uint16_t gpe0 = c->pm_base + c->pm->gpe0;
	struct fadt f = {
		.header = header("FACP", FADT_REVISION, sizeof f),
		.firmware_ctrl = (uint32_t)facs,
		.dsdt = (uint32_t)dsdt,
		.x_dsdt = dsdt,
		.sci_int = PM_SCI_GSI,
		.pm1a_evt_blk = event,
		.pm1a_cnt_blk = control,
		.pm_tmr_blk = timer,
		.gpe0_blk = gpe0,
		.pm1_evt_len = 4,
		.pm1_cnt_len = 2,
		.pm_tmr_len = 4,
		.gpe0_blk_len = c->pm->gpe0_len,
		.x_pm1a_evt_blk = port(event, 32, GAS_ACCESS_WORD),
		.x_pm1a_cnt_blk = port(control, 16, GAS_ACCESS_WORD),
		.x_pm_tmr_blk = port(timer, 32, GAS_ACCESS_DWORD),
		.x_gpe0_blk = port(gpe0, c->pm->gpe0_len * 8, GAS_ACCESS_BYTE),
		.p_lvl2_lat = NO_C2_LATENCY,
		.p_lvl3_lat = NO_C3_LATENCY,
		.century = RTC_CENTURY,
		.iapc_boot_arch = BOOT_ARCH_LEGACY_DEVICES | BOOT_ARCH_8042 | (c->screen ? 0 : BOOT_ARCH_NO_VGA),
		.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_FIXED_RTC | FADT_TMR_VAL_EXT |
			 FADT_RESET_REG_SUP,
		.reset_reg = port(RESET_PORT, 8, GAS_ACCESS_BYTE),
		.reset_value = RESET_VALUE,
	};

	return append(b, &f, sizeof f);
}

#define MADT_MAX (sizeof(struct madt) + 255 * sizeof(struct madt_lapic) + sizeof(struct madt_ioapic) + \
		  4 * sizeof(struct madt_override) + sizeof(struct madt_lapic_nmi))

static uint64_t add_madt(struct builder *b, const struct acpi_config *c)
{
	uint8_t buffer[MADT_MAX];
	size_t len = sizeof(struct madt);
	const struct madt_ioapic ioapic = {MADT_IOAPIC, sizeof ioapic, c->ioapic_id, 0, c->ioapic_base, 0};
	const struct madt_override timer = {MADT_OVERRIDE, sizeof timer, 0, ISA_IRQ_TIMER, GSI_TIMER, 0};
	const struct madt_lapic_nmi nmi = {MADT_LAPIC_NMI, sizeof nmi, MADT_ALL_PROCESSORS, 0, 1};

	for (unsigned i = 0; i < c->cpus; i++, len += sizeof(struct madt_lapic)) {
		const struct madt_lapic lapic = {MADT_LAPIC, sizeof lapic, (uint8_t)i, (uint8_t)i, MADT_LAPIC_ENABLED};

		memcpy(buffer + len, &lapic, sizeof lapic);
	}
	memcpy(buffer + len, &ioapic, sizeof ioapic);
	len += sizeof ioapic;
	memcpy(buffer + len, &timer, sizeof timer);
	len += sizeof timer;
	/* Interrupts that are levels: the SCI's, and those of PCI. */
	static const uint8_t levels[] = {PM_SCI_GSI, 10, 11};
	for (unsigned i = 0; i < (c->pci ? 3 : 1); i++) {
		const struct madt_override level = {MADT_OVERRIDE, sizeof level, 0, levels[i], levels[i], MADT_ACTIVE_HIGH_LEVEL};

		memcpy(buffer + len, &level, sizeof level);
		len += sizeof level;
	}
	memcpy(buffer + len, &nmi, sizeof nmi);
	len += sizeof nmi;
	const struct madt madt = {
		.header = header("APIC", MADT_REVISION, len), .lapic_base = c->lapic_base, .flags = MADT_PCAT_COMPAT};
	memcpy(buffer, &madt, sizeof madt);
	return append(b, buffer, len);
}

/* ---- MCFG ---- */

static uint64_t add_mcfg(struct builder *b, uint64_t ecam)
{
	struct {
		struct header header;
		uint64_t reserved0;
		uint64_t base;
		uint16_t segment;
		uint8_t first_bus, last_bus;
		uint32_t reserved1;
	} PACKED mcfg = {.header = header("MCFG", 1, sizeof mcfg), .base = ecam, .last_bus = 255};

	return append(b, &mcfg, sizeof mcfg);
}

/* ---- HPET ---- */

static uint64_t add_hpet(struct builder *b)
{
	struct {
		struct header header;
		uint32_t id;
		struct generic_address base;
		uint8_t number;
		uint16_t min_tick;
		uint8_t page_protection;
	} PACKED hpet = {
		.header = header("HPET", 1, sizeof hpet), .id = HPET_ID, .base.address = HPET_BASE, .min_tick = HPET_MIN_TICK};

	return append(b, &hpet, sizeof hpet);
}

/* ---- RSDT, XSDT, RSDP ---- */

/* Tables that the root tables point to. */
struct root {
	uint64_t entry[8];
	unsigned count;
};

static void add_root(struct root *r, uint64_t table) { r->entry[r->count++] = table; }

static uint64_t add_root_table(struct builder *b, const struct root *r, const char *signature, unsigned entry_size)
{
	uint8_t buffer[sizeof(struct header) + sizeof r->entry];
	size_t len = sizeof(struct header) + r->count * entry_size;
	const struct header h = header(signature, 1, len);

	memcpy(buffer, &h, sizeof h);
	for (unsigned i = 0; i < r->count; i++)
		memcpy(buffer + sizeof h + i * entry_size, &r->entry[i], entry_size);
	return append(b, buffer, len);
}

static void fill_rsdp(void *p, uint64_t rsdt, uint64_t xsdt)
{
	struct rsdp r = {.revision = 2, .rsdt = (uint32_t)rsdt, .length = sizeof r, .xsdt = xsdt};

	memcpy(r.signature, "RSD PTR ", sizeof r.signature);
	memcpy(r.oem_id, OEM_ID, sizeof r.oem_id);
	r.checksum = checksum(&r, offsetof(struct rsdp, length));
	r.extended_checksum = checksum(&r, sizeof r);
	memcpy(p, &r, sizeof r);
}

int acpi_make(uint8_t *buffer, uint64_t gpa, uint64_t size, const struct acpi_config *config, uint64_t *len)
{
	if (gpa % FACS_ALIGN || gpa > UINT32_MAX || size > UINT32_MAX - gpa || !config->cpus || config->cpus > 255)
		return -EINVAL;
	struct builder b = {.buffer = buffer, .gpa = gpa, .size = size};
	void *root = reserve(&b, sizeof(struct rsdp), TABLE_ALIGN); /* where gpa is */
	uint64_t dsdt = add_dsdt(&b, config), facs = add_facs(&b);
	struct root tables = {0};
	add_root(&tables, add_fadt(&b, config, facs, dsdt));
	add_root(&tables, add_madt(&b, config));
	if (config->pci && config->pci->ecam)
		add_root(&tables, add_mcfg(&b, config->pci->ecam));
	if (config->hpet)
		add_root(&tables, add_hpet(&b));
	uint64_t rsdt = add_root_table(&b, &tables, "RSDT", 4), xsdt = add_root_table(&b, &tables, "XSDT", 8);
	if (b.failed)
		return -ENOSPC;
	fill_rsdp(root, rsdt, xsdt);
	*len = b.len;
	return 0;
}

int acpi_build(struct memory *memory, uint64_t gpa, uint64_t size, const struct acpi_config *config, uint64_t *rsdp)
{
	uint8_t *buffer = calloc(1, size ? size : 1);
	uint64_t len;
	int r = -ENOMEM;

	if (buffer && (r = acpi_make(buffer, gpa, size, config, &len)) == 0) {
		r = memory_write(memory, gpa, buffer, len);
		*rsdp = gpa;
		LOG(LOG_ACPI, "%llu bytes of tables at %#llx", (unsigned long long)len, (unsigned long long)gpa);
	}
	free(buffer);
	return r;
}
