/*
 * What the VGA's monitor says of itself: an EDID 1.4 block with the resolutions that the adapter shows.
 * Source: VESA Enhanced EDID Standard, release A, revision 2.
 */
#ifndef RINGSIDE_VGA_EDID_H
#define RINGSIDE_VGA_EDID_H

#include <stdint.h>

/* 128 bytes of EDID, and as many of zeros. */
void vga_edid_fill(uint8_t edid[256]);

#endif
