/*
 * A standard VGA with the Bochs VBE extension, as a PCI function 1234:1111: text, planar and 256-color modes by the
 * IBM registers, and modes with up to 32 bits a pixel whose picture lies in memory that the guest reaches without exits.
 *
 * Under vm->lock, or while the machine is built. Sources: IBM VGA XGA Technical Reference Manual (1992); QEMU
 * docs/specs/standard-vga.rst; the VBE_DISPI interface of the Bochs VBE extension.
 */
#ifndef RINGSIDE_VGA_H
#define RINGSIDE_VGA_H

#include <stdbool.h>
#include <stdint.h>

struct bus;
struct display;
struct memory;
struct pci_bus;
struct timer_queue;
struct vga;

#define VGA_MEMORY_SIZE (16u << 20)

struct vga_config {
	struct memory *memory;
	struct bus *pio, *mmio;
	struct timer_queue *timers; /* for its time only: retrace, blinking */
	struct pci_bus *pci;        /* NULL: no PCI function, the IBM and VBE ports only */
	int devfn;                  /* -1: first free */
	const char *rom;            /* file of the VGA BIOS; NULL: none */
	struct display *display;
};

/* NULL: errno. */
struct vga *vga_new(const struct vga_config *config);
void vga_free(struct vga *v); /* also of NULL */

/* As the VGA BIOS leaves a linear mode of 32 bits a pixel, for a kernel that is started without one. *address: where
 * in guest memory the picture begins, 0 when it is mapped nowhere. Lines are width * 4 bytes. */
void vga_set_linear_mode(struct vga *v, unsigned width, unsigned height, uint64_t *address);

/* As it leaves text mode 3, but for a font: a terminal can show the characters, a picture of them is black. */
#define VGA_TEXT_COLUMNS 80u
#define VGA_TEXT_ROWS 25u
void vga_set_text_mode(struct vga *v);

#endif
