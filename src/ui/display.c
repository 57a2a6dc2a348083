/*
 * The picture and who looks at it. See display.h. Under vm->lock.
 */
#include "ui/display.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What a display has that nobody has drawn on. */
#define NO_PICTURE_WIDTH 640u
#define NO_PICTURE_HEIGHT 400u

struct display {
	unsigned width, height;
	uint32_t *pixels; /* height lines of width */
	const struct display_source *source;
	void *opaque;
	struct display_viewer *viewers;
};

struct display *display_new(void)
{
	struct display *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->pixels = calloc((size_t)NO_PICTURE_WIDTH * NO_PICTURE_HEIGHT, sizeof d->pixels[0]);
	if (!d->pixels) {
		free(d);
		errno = ENOMEM;
		return NULL;
	}
	d->width = NO_PICTURE_WIDTH;
	d->height = NO_PICTURE_HEIGHT;
	return d;
}

void display_free(struct display *d)
{
	if (!d)
		return;
	free(d->pixels);
	free(d);
}

void display_attach(struct display *d, const struct display_source *source, void *opaque)
{
	d->source = source;
	d->opaque = opaque;
}

/* The last picture stays: a machine that is reset shows it until it draws another. */
void display_detach(struct display *d)
{
	d->source = NULL;
	d->opaque = NULL;
}

/* ---- for the source ---- */

static unsigned cut(unsigned value, unsigned max) { return value == 0 ? 1 : value > max ? max : value; }

static void all_changed(struct display_viewer *v)
{
	v->resized = true;
	memset(v->changed, 0xff, sizeof v->changed);
}

void display_resize(struct display *d, unsigned width, unsigned height)
{
	width = cut(width, DISPLAY_WIDTH_MAX);
	height = cut(height, DISPLAY_HEIGHT_MAX);
	if (width == d->width && height == d->height)
		return;
	uint32_t *pixels = calloc((size_t)width * height, sizeof pixels[0]);
	if (!pixels)
		return; /* the old size stays: put_line cuts */
	free(d->pixels);
	d->pixels = pixels;
	d->width = width;
	d->height = height;
	for (struct display_viewer *v = d->viewers; v; v = v->next)
		all_changed(v);
}

/* Tiles [first, last] of a row of them. */
static uint64_t tile_mask(unsigned first, unsigned last) { return ~0ull >> (63 - (last - first)) << first; }

void display_put_line(struct display *d, unsigned y, const uint32_t *pixels)
{
	uint32_t *line = d->pixels + (size_t)y * d->width;
	uint64_t changed = 0;

	if (y >= d->height)
		return;
	for (unsigned x = 0; x < d->width; x += DISPLAY_TILE_WIDTH) {
		unsigned n = d->width - x < DISPLAY_TILE_WIDTH ? d->width - x : DISPLAY_TILE_WIDTH;

		if (memcmp(line + x, pixels + x, n * sizeof line[0]) == 0)
			continue;
		memcpy(line + x, pixels + x, n * sizeof line[0]);
		changed |= tile_mask(x / DISPLAY_TILE_WIDTH, x / DISPLAY_TILE_WIDTH);
	}
	if (changed)
		for (struct display_viewer *v = d->viewers; v; v = v->next)
			v->changed[y / DISPLAY_TILE_HEIGHT] |= changed;
}

/* ---- for viewers ---- */

void display_add_viewer(struct display *d, struct display_viewer *v)
{
	all_changed(v);
	v->next = d->viewers;
	d->viewers = v;
}

void display_remove_viewer(struct display *d, struct display_viewer *v)
{
	for (struct display_viewer **p = &d->viewers; *p; p = &(*p)->next)
		if (*p == v) {
			*p = v->next;
			return;
		}
}

void display_refresh(struct display *d)
{
	if (d->source)
		d->source->draw(d->opaque, d);
}

bool display_text(struct display *d, struct display_text *text)
{
	return d->source && d->source->text && d->source->text(d->opaque, text);
}

unsigned display_width(const struct display *d) { return d->width; }
unsigned display_height(const struct display *d) { return d->height; }

const uint32_t *display_line(const struct display *d, unsigned y) { return d->pixels + (size_t)y * d->width; }
