/*
 * A screen, between the device that makes its picture and those who look at it.
 *
 * The device attaches itself as the source. Viewers (a VNC server, a terminal) pull: display_refresh asks the source to
 * bring the picture up to date, and notes for each viewer which tiles of it have changed since he last took them. When
 * nobody looks, nothing is drawn.
 *
 * The display belongs to the host's side and outlives resets; without a source it is black. Everything is called under
 * vm->lock.
 */
#ifndef RINGSIDE_DISPLAY_H
#define RINGSIDE_DISPLAY_H

#include <stdbool.h>
#include <stdint.h>

#define DISPLAY_WIDTH_MAX 4096u
#define DISPLAY_HEIGHT_MAX 2560u
/* Changes are kept by tiles; a row of them is one word. */
#define DISPLAY_TILE_WIDTH 64u
#define DISPLAY_TILE_HEIGHT 16u
#define DISPLAY_TILE_ROWS (DISPLAY_HEIGHT_MAX / DISPLAY_TILE_HEIGHT)
#define DISPLAY_TEXT_MAX 8192u /* character cells */

struct display;

/* A screen of characters, for a terminal. */
struct display_text {
	unsigned columns, rows;          /* columns * rows <= DISPLAY_TEXT_MAX */
	uint16_t cell[DISPLAY_TEXT_MAX]; /* character (code page 437), attribute << 8: as in VGA text modes */
	int cursor_column, cursor_row;   /* -1: no cursor */
};

struct display_source {
	/* Brings the picture up to date: display_resize, then display_put_line for each line. */
	void (*draw)(void *opaque, struct display *d);
	/* The characters on the screen. False: it shows graphics. */
	bool (*text)(void *opaque, struct display_text *text);
};

struct display_viewer {
	bool resized; /* the size is another one; all of it has changed */
	uint64_t changed[DISPLAY_TILE_ROWS]; /* bit x of word y: tile (x, y) */
	struct display_viewer *next; /* the display's own */
};

struct display *display_new(void); /* NULL: errno */
void display_free(struct display *d); /* also of NULL; no source or viewer is left */

/* One source at a time; `source` must live until display_detach. */
void display_attach(struct display *d, const struct display_source *source, void *opaque);
void display_detach(struct display *d);

/* For the source. Sizes are cut to 1..MAX. Pixels are 0x00RRGGBB. What a resize leaves is black. */
void display_resize(struct display *d, unsigned width, unsigned height);
void display_put_line(struct display *d, unsigned y, const uint32_t *pixels); /* y: below height; width pixels */

/* For viewers, who see everything as changed at first. */
void display_add_viewer(struct display *d, struct display_viewer *v);
void display_remove_viewer(struct display *d, struct display_viewer *v);
void display_refresh(struct display *d);
bool display_text(struct display *d, struct display_text *text); /* false: graphics, or nothing there */
unsigned display_width(const struct display *d);
unsigned display_height(const struct display *d);
/* width pixels; valid while the lock is held. */
const uint32_t *display_line(const struct display *d, unsigned y);

#endif
