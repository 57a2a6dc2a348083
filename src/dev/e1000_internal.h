/*
 * What the two files of the e1000 share: registers by the manual's names (chapter 13), and the device. e1000.c owns the
 * registers, interrupts, PHY and EEPROM, e1000_rings.c what is sent and received.
 */
#ifndef RINGSIDE_E1000_INTERNAL_H
#define RINGSIDE_E1000_INTERNAL_H

#include "net/net.h"
#include "pci/pci.h"
#include "util/loop.h"
#include "util/timer.h"

/* Registers: byte offsets in BAR 0. */
enum {
	CTRL = 0x0000, STATUS = 0x0008, EECD = 0x0010, EERD = 0x0014, CTRL_EXT = 0x0018, MDIC = 0x0020, FCAL = 0x0028,
	FCAH = 0x002c, FCT = 0x0030, VET = 0x0038, ICR = 0x00c0, ITR = 0x00c4, ICS = 0x00c8, IMS = 0x00d0, IMC = 0x00d8,
	RCTL = 0x0100, FCTTV = 0x0170, TXCW = 0x0178, RXCW = 0x0180, TCTL = 0x0400, TIPG = 0x0410, AIT = 0x0458,
	LEDCTL = 0x0e00, PBA = 0x1000, FCRTL = 0x2160, FCRTH = 0x2168, RDBAL = 0x2800, RDBAH = 0x2804, RDLEN = 0x2808,
	RDH = 0x2810, RDT = 0x2818, RDTR = 0x2820, RXDCTL = 0x2828, RADV = 0x282c, RSRPD = 0x2c00, TXDMAC = 0x3000,
	TDBAL = 0x3800, TDBAH = 0x3804, TDLEN = 0x3808, TDH = 0x3810, TDT = 0x3818, TIDV = 0x3820, TXDCTL = 0x3828,
	TADV = 0x382c, TSPMT = 0x3830, STATISTICS = 0x4000, STATISTICS_END = 0x4128, RXCSUM = 0x5000, MTA = 0x5200,
	MTA_END = 0x5400, RAL = 0x5400, RAH = 0x5404, RA_END = 0x5480, VFTA = 0x5600, VFTA_END = 0x5800, WUC = 0x5800,
	WUFC = 0x5808, WUS = 0x5810, IPAV = 0x5838, MANC = 0x5820, REGISTERS_END = 0x6000,
};

/* Statistics that are counted (13.7). */
enum {
	MPC = 0x4010, PRC64 = 0x405c, GPRC = 0x4074, BPRC = 0x4078, MPRC = 0x407c, GPTC = 0x4080, GORCL = 0x4088,
	GOTCL = 0x4090, ROC = 0x40ac, TORL = 0x40c0, TOTL = 0x40c8, TPR = 0x40d0, TPT = 0x40d4, PTC64 = 0x40d8,
	MPTC = 0x40f0, BPTC = 0x40f4, TSCTC = 0x40f8,
};

#define CTRL_FD 0x00000001u
#define CTRL_SLU 0x00000040u
#define CTRL_SPEED_1000 0x00000200u
#define CTRL_RST 0x04000000u
#define CTRL_VME 0x40000000u
#define CTRL_PHY_RST 0x80000000u

#define STATUS_FD 0x00000001u
#define STATUS_LU 0x00000002u
#define STATUS_SPEED_1000 0x00000080u
#define STATUS_ASDV_1000 0x00000200u

#define ICR_TXDW 0x00000001u
#define ICR_TXQE 0x00000002u
#define ICR_LSC 0x00000004u
#define ICR_RXDMT0 0x00000010u
#define ICR_RXO 0x00000040u
#define ICR_RXT0 0x00000080u
#define ICR_MDAC 0x00000200u
#define ICR_BITS 0x0001f6dfu

#define RCTL_EN 0x00000002u
#define RCTL_UPE 0x00000008u
#define RCTL_MPE 0x00000010u
#define RCTL_LPE 0x00000020u
#define RCTL_LBM 0x000000c0u
#define RCTL_RDMTS(v) ((v) >> 8 & 3)
#define RCTL_MO(v) ((v) >> 12 & 3)
#define RCTL_BAM 0x00008000u
#define RCTL_BSIZE(v) ((v) >> 16 & 3)
#define RCTL_VFE 0x00040000u
#define RCTL_BSEX 0x02000000u
#define RCTL_SECRC 0x04000000u

#define TCTL_EN 0x00000002u
#define TCTL_PSP 0x00000008u
#define RAH_AV 0x80000000u
#define RAH_ASEL 0x00030000u
#define RXCSUM_PCSS(v) ((v) & 0xff)
#define RXCSUM_IPOFL 0x00000100u
#define RXCSUM_TUOFL 0x00000200u

#define PHY_CONTROL 0u
#define PHY_CONTROL_LOOPBACK 0x4000u
#define PHY_REGISTERS 32u

#define EEPROM_WORDS 64u
#define DESCRIPTOR_SIZE 16u

/* A context descriptor (3.3.5): what checksums cover, and how a large packet is cut. */
struct e1000_context {
	uint8_t ip_start, ip_at, tu_start, tu_at; /* IPCSS, IPCSO, TUCSS, TUCSO */
	uint16_t ip_end, tu_end;                  /* IPCSE, TUCSE: last byte; 0: to the end */
	uint8_t header_len;
	uint16_t mss;
	bool tcp;
};

struct e1000 {
	struct pci_device pci;
	struct net *net;
	struct loop *loop;
	uint32_t reg[REGISTERS_END / 4]; /* at offset / 4 */
	uint32_t io_address;
	uint16_t phy[PHY_REGISTERS];
	uint16_t eeprom[EEPROM_WORDS];
	struct {
		unsigned bits; /* clocked in since chip select */
		uint32_t in;
		unsigned address, left; /* word that is read; bits of it that are left */
		bool out;
	} microwire;
	/* interrupts */
	uint64_t interrupted; /* when the line last rose */
	struct timer throttle;
	/* sending: a packet that is being collected */
	struct loop_call send_call, receive_call;
	struct e1000_context context;
	uint32_t len;      /* of the packet in `packet` */
	bool dropping;     /* it is too long, or its memory was not RAM */
	bool segmenting;   /* by context */
	uint8_t options;   /* POPTS of its first descriptor */
	uint8_t legacy_start, legacy_at; /* CSS, CSO of a legacy descriptor with IC */
	bool legacy_checksum;
	uint8_t packet[NET_FRAME_MAX];
	/* receiving */
	bool some_received; /* since receive_end */
	uint8_t received[NET_FRAME_MAX];
};

static inline uint32_t e1000_get(const struct e1000 *d, unsigned r) { return d->reg[r / 4]; }
/* Causes happened: sets ICR's bits. */
void e1000_cause(struct e1000 *d, uint32_t bits);
/* Statistics: they stick at their largest value. */
void e1000_count(struct e1000 *d, unsigned r, uint32_t n);
void e1000_count64(struct e1000 *d, unsigned r, uint64_t n);

/* e1000_rings.c */
extern const struct net_nic_ops e1000_nic_ops;
void e1000_rings_reset(struct e1000 *d);
void e1000_send_all(void *d);    /* loop_call */
void e1000_receive_more(void *d); /* loop_call: there are new receive descriptors */
/* e1000.c */
void e1000_link_changed(void *nic, bool up);

#endif
