/*
 * ringside screenshot: what the screen of a running VM shows, as a PNG file. It asks the VM's VNC server. Main thread.
 *
 * Source: RFC 6143, The Remote Framebuffer Protocol.
 */
#include <errno.h>
#include <png.h>
#include <rfb/rfbproto.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "ui/address.h"
#include "ui/display.h"
#include "util/big_endian.h"
#include "util/library.h"

#define WAIT_S 10
#define VERSION_LEN 12
#define CHALLENGE_LEN 16
#define NAME_MAX_LEN 4096u
#define SECURITY_NONE 1
#define SECURITY_VNC 2
#define ENCODING_RAW 0
#define ENCODING_DESKTOP_SIZE (-223)

struct shot {
	int fd;
	unsigned width, height;
	uint8_t *pixels; /* 4 bytes each: blue, green, red, nothing */
	const char *password_file;
};

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "ringside screenshot: %s: %s\n", what, why);
	return -1;
}

static int broken(void) { return fail("the VNC server", errno ? strerror(errno) : "not as the protocol says"); }

static bool get(struct shot *s, void *buf, size_t len)
{
	for (uint8_t *p = buf; len;) {
		errno = 0;
		ssize_t n = read(s->fd, p, len);

		if (n <= 0 && errno != EINTR)
			return false;
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
	return true;
}

static bool put(struct shot *s, const void *buf, size_t len)
{
	errno = 0;
	return write(s->fd, buf, len) == (ssize_t)len;
}

/* ---- the protocol ---- */

static int authenticate(struct shot *s)
{
	void (*encrypt)(unsigned char *bytes, char *password);
	const struct library_symbol symbols[] = {{"rfbEncryptBytes", &encrypt}, {0}};
	char error[256];
	uint8_t challenge[CHALLENGE_LEN];
	char password[64] = "";
	FILE *f = s->password_file ? fopen(s->password_file, "re") : NULL;

	if (!s->password_file)
		return fail("the VNC server", "it wants a password; try --password-file FILE");
	if (!f || !fgets(password, sizeof password, f)) {
		if (f)
			fclose(f);
		return fail(s->password_file, f ? "it has no password" : strerror(errno));
	}
	fclose(f);
	password[strcspn(password, "\r\n")] = '\0';
	if (!get(s, challenge, sizeof challenge))
		return broken();
	if (!library_load("libvncserver.so.1", symbols, error, sizeof error))
		return fail("the password", error);
	encrypt(challenge, password);
	return put(s, challenge, sizeof challenge) ? 0 : broken();
}

static int handshake(struct shot *s)
{
	uint8_t version[VERSION_LEN], count, types[255], result[4], shared = 1, type = 0;

	if (!get(s, version, sizeof version) || memcmp(version, "RFB 003.", 8) != 0 ||
	    !put(s, "RFB 003.008\n", VERSION_LEN) || !get(s, &count, 1) || !get(s, types, count))
		return broken();
	for (unsigned i = 0; i < count; i++)
		if (types[i] == SECURITY_NONE || (types[i] == SECURITY_VNC && type != SECURITY_NONE))
			type = types[i];
	if (!type)
		return fail("the VNC server", "it wants a kind of security that this command does not know");
	if (!put(s, &type, 1))
		return broken();
	if (type == SECURITY_VNC && authenticate(s) < 0)
		return -1;
	if (!get(s, result, sizeof result))
		return broken();
	if (be32(result) != 0)
		return fail("the VNC server", "the password is not the right one");
	return put(s, &shared, 1) ? 0 : broken();
}

static int take_size(struct shot *s, unsigned width, unsigned height)
{
	if (width == 0 || height == 0 || width > DISPLAY_WIDTH_MAX || height > DISPLAY_HEIGHT_MAX)
		return fail("the VNC server", "the screen has a size that is not possible");
	free(s->pixels);
	s->width = width;
	s->height = height;
	s->pixels = calloc((size_t)width * height, 4);
	return s->pixels ? 0 : fail("the picture", "out of memory");
}

static int server_init(struct shot *s)
{
	uint8_t init[24], name[NAME_MAX_LEN];

	if (!get(s, init, sizeof init) || be32(init + 20) > sizeof name || !get(s, name, be32(init + 20)))
		return broken();
	return take_size(s, be16(init), be16(init + 2));
}

static bool ask(struct shot *s)
{
	static const uint8_t format[] = {0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0};
	static const uint8_t encodings[] = {2, 0, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21};
	const uint8_t update[] = {3, 0, 0, 0, 0, 0, (uint8_t)(s->width >> 8), (uint8_t)s->width,
				  (uint8_t)(s->height >> 8), (uint8_t)s->height};

	return put(s, format, sizeof format) && put(s, encodings, sizeof encodings) && put(s, update, sizeof update);
}

static int rectangle(struct shot *s, bool *resized)
{
	uint8_t head[12];

	if (!get(s, head, sizeof head))
		return broken();
	unsigned x = be16(head), y = be16(head + 2), w = be16(head + 4), h = be16(head + 6);
	int32_t encoding = (int32_t)be32(head + 8);
	if (encoding == ENCODING_DESKTOP_SIZE) {
		*resized = true;
		return take_size(s, w, h);
	}
	if (encoding != ENCODING_RAW || x + w > s->width || y + h > s->height)
		return broken();
	for (unsigned i = 0; i < h; i++)
		if (!get(s, s->pixels + 4 * ((size_t)(y + i) * s->width + x), 4 * (size_t)w))
			return broken();
	return 0;
}

/* Until an update has come that is the whole picture. */
static int picture(struct shot *s)
{
	uint8_t type, head[3];
	bool resized = true;

	while (resized) {
		resized = false;
		if (!ask(s) || !get(s, &type, 1))
			return broken();
		if (type == 2) /* bell */
			continue;
		if (type != 0 || !get(s, head, sizeof head))
			return broken();
		for (unsigned i = 0; i < be16(head + 1); i++)
			if (rectangle(s, &resized) < 0)
				return -1;
	}
	return 0;
}

/* ---- the file ---- */

static int write_png(const struct shot *s, const char *path)
{
	__typeof__(png_image_write_to_stdio) *write_to_stdio;
	__typeof__(png_image_write_to_file) *write_to_file;
	const struct library_symbol symbols[] = {
		{"png_image_write_to_stdio", &write_to_stdio}, {"png_image_write_to_file", &write_to_file}, {0},
	};
	png_image image = {.version = PNG_IMAGE_VERSION, .width = s->width, .height = s->height};
	char error[256];
	uint8_t *rgb;
	int ok;

	if (!library_load("libpng16.so.16", symbols, error, sizeof error))
		return fail(path, error);
	rgb = malloc((size_t)s->width * s->height * 3);
	if (!rgb)
		return fail(path, "out of memory");
	for (size_t i = 0; i < (size_t)s->width * s->height; i++)
		for (unsigned c = 0; c < 3; c++)
			rgb[3 * i + c] = s->pixels[4 * i + 2 - c];
	image.format = PNG_FORMAT_RGB;
	errno = 0;
	if (strcmp(path, "-") == 0)
		ok = write_to_stdio(&image, stdout, 0, rgb, 0, NULL);
	else
		ok = write_to_file(&image, path, 0, rgb, 0, NULL);
	free(rgb);
	return ok ? 0 : fail(path, errno ? strerror(errno) : image.message);
}

static int take(const char *from, const char *to, const char *password_file)
{
	struct shot s = {.fd = -1, .password_file = password_file};
	struct address address;
	int r = address_parse(&address, from);

	if (r < 0) {
		fail(from, "an address like :0 or unix:PATH is wanted, as it was given to --vnc");
		return STATUS_USAGE;
	}
	if ((s.fd = address_connect(&address)) < 0) {
		fail(from, strerror(-s.fd));
		return STATUS_ERROR;
	}
	const struct timeval wait = {.tv_sec = WAIT_S};
	setsockopt(s.fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	setsockopt(s.fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
	r = handshake(&s) < 0 || server_init(&s) < 0 || picture(&s) < 0 || write_png(&s, to) < 0;
	close(s.fd);
	free(s.pixels);
	return r ? STATUS_ERROR : STATUS_OK;
}

int cmd_screenshot(int argc, char **argv)
{
	const char *password_file = NULL;

	if (argc == 1 && strcmp(argv[0], "--help") == 0) {
		puts("usage: ringside screenshot [--password-file FILE] ADDRESS PICTURE.png\n\n"
		     "Writes what the screen of a running guest shows. ADDRESS is what was given to its --vnc:\n"
		     ":0, HOST:0 or unix:PATH. PICTURE - is standard output.");
		return STATUS_OK;
	}
	if (argc >= 2 && strcmp(argv[0], "--password-file") == 0) {
		password_file = argv[1];
		argc -= 2;
		argv += 2;
	}
	if (argc != 2) {
		fputs("ringside screenshot: ADDRESS and PICTURE.png are wanted; try 'ringside screenshot --help'\n", stderr);
		return STATUS_USAGE;
	}
	return take(argv[0], argv[1], password_file);
}
