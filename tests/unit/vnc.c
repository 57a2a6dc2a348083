/*
 * The VNC server on a Unix socket, with a display and an input hub of our own behind it: pictures and what changes in
 * them, a new size, keys and pointer, a password, and clients that do not keep to the protocol.
 */
// LIBS: -lvncserver
#include "ui/vnc.h"

#include <linux/input-event-codes.h>
#include <poll.h>
#include <pthread.h>
#include <rfb/rfbproto.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev_fixture.h"
#include "ui/address.h"
#include "ui/display.h"
#include "ui/input.h"

#define WAIT_MS 10000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct display *display;
static struct input *input;
static struct vnc *vnc;
static char path[64], spec[80];

/* ---- the picture: one color, and a dot ---- */

static unsigned width = 320, height = 200, dot_x, dot_y;

static void draw(void *opaque, struct display *d)
{
	static uint32_t line[DISPLAY_WIDTH_MAX + 32];

	(void)opaque;
	display_resize(d, width, height);
	for (unsigned y = 0; y < display_height(d); y++) {
		for (unsigned x = 0; x < width; x++)
			line[x] = x == dot_x && y == dot_y ? 0xff8001 : 0x102030;
		display_put_line(d, y, line);
	}
}

static const struct display_source source = {.draw = draw};

/* ---- what arrives ---- */

static char keys[4096];
static unsigned place_x, place_y, place_buttons;
static int wheel;

static void key(void *opaque, unsigned code, bool down)
{
	size_t len = strlen(keys);

	(void)opaque;
	if (len < sizeof keys - 16)
		sprintf(keys + len, "%s%u ", down ? "+" : "-", code);
}

static void place(void *opaque, unsigned x, unsigned y, int dz, unsigned buttons)
{
	(void)opaque;
	place_x = x;
	place_y = y;
	place_buttons = buttons;
	wheel += dz;
}

static struct input_sink sink = {.key = key, .place = place};

/* ---- a client ---- */

static bool get(int fd, void *buf, size_t len)
{
	for (uint8_t *p = buf; len;) {
		struct pollfd set = {.fd = fd, .events = POLLIN};
		ssize_t n = poll(&set, 1, WAIT_MS) > 0 ? read(fd, p, len) : -1;

		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static bool put(int fd, const void *buf, size_t len) { return send(fd, buf, len, MSG_NOSIGNAL) == (ssize_t)len; }

static int client(void)
{
	struct address a;
	int fd = address_parse(&a, spec) == 0 ? address_connect(&a) : -1;

	CHECK(fd >= 0);
	return fd;
}

/* Up to ServerInit. `type` is the kind of security that is chosen. False: refused. */
static bool enter(int fd, uint8_t type, char *password)
{
	uint8_t buf[256];

	if (!get(fd, buf, 12) || !put(fd, "RFB 003.008\n", 12) || !get(fd, buf, 1) || !get(fd, buf + 1, buf[0]) ||
	    !put(fd, &type, 1))
		return false;
	if (password) {
		uint8_t challenge[16];

		if (!get(fd, challenge, sizeof challenge))
			return false;
		rfbEncryptBytes(challenge, password);
		put(fd, challenge, sizeof challenge);
	}
	if (!get(fd, buf, 4) || buf[3] != 0)
		return false;
	put(fd, "\1", 1);
	if (!get(fd, buf, 24))
		return false;
	CHECK_EQ(buf[0] << 8 | buf[1], width);
	CHECK_EQ(buf[2] << 8 | buf[3], height);
	return get(fd, buf, buf[23]);
}

static void ask(int fd, bool incremental)
{
	uint8_t m[10] = {3, incremental, 0, 0, 0, 0, (uint8_t)(width >> 8), (uint8_t)width, (uint8_t)(height >> 8),
			 (uint8_t)height};

	put(fd, m, sizeof m);
}

static void encodings(int fd)
{
	static const uint8_t m[] = {2, 0, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21};

	put(fd, m, sizeof m);
}

/* One update of raw rectangles: how many pixels came, and where the dot was. *resized: a new size came instead. */
static unsigned update(int fd, unsigned *x0, unsigned *y0, bool *resized)
{
	uint8_t head[4], r[12];
	unsigned pixels = 0;

	*x0 = *y0 = ~0u;
	*resized = false;
	if (!get(fd, head, 4) || head[0] != 0)
		return 0;
	for (unsigned i = 0; i < (unsigned)(head[2] << 8 | head[3]); i++) {
		if (!get(fd, r, 12))
			return 0;
		unsigned x = r[0] << 8 | r[1], y = r[2] << 8 | r[3], w = r[4] << 8 | r[5], h = r[6] << 8 | r[7];
		if (r[8] == 0xff) {
			*resized = w == width && h == height;
			continue;
		}
		static uint8_t row[DISPLAY_WIDTH_MAX * 4];

		for (unsigned n = 0; n < h; n++) {
			if (w > DISPLAY_WIDTH_MAX || !get(fd, row, 4 * (size_t)w))
				return 0;
			for (const uint8_t *p = row; p < row + 4 * (size_t)w; p += 4) {
				if (p[2] == 0xff && p[1] == 0x80 && p[0] == 1) {
					*x0 = x + (unsigned)(p - row) / 4;
					*y0 = y + n;
				} else if (p[0] != 0x30 || p[1] != 0x20 || p[2] != 0x10) {
					CHECK(false);
					return 0;
				}
			}
		}
		pixels += w * h;
	}
	return pixels;
}

static void key_event(int fd, bool down, uint32_t keysym)
{
	uint8_t m[8] = {4, down, 0, 0, (uint8_t)(keysym >> 24), (uint8_t)(keysym >> 16), (uint8_t)(keysym >> 8),
			(uint8_t)keysym};

	put(fd, m, sizeof m);
}

static void pointer_event(int fd, unsigned buttons, unsigned x, unsigned y)
{
	uint8_t m[6] = {5, (uint8_t)buttons, (uint8_t)(x >> 8), (uint8_t)x, (uint8_t)(y >> 8), (uint8_t)y};

	put(fd, m, sizeof m);
}

/* What was typed, once the server has got so far. */
static void typed(const char *expected)
{
	bool same = false;

	for (unsigned i = 0; i < WAIT_MS && !same; i++) {
		pthread_mutex_lock(&lock);
		same = strcmp(keys, expected) == 0;
		pthread_mutex_unlock(&lock);
		if (!same)
			usleep(1000);
	}
	if (!same)
		printf("typed \"%s\", not \"%s\"\n", keys, expected);
	CHECK(same);
	pthread_mutex_lock(&lock);
	keys[0] = '\0';
	pthread_mutex_unlock(&lock);
}

/* ---- tests ---- */

static void start(const char *password_file)
{
	struct vnc_config config = {.addresses = 1};
	char error[256] = "";

	display = display_new();
	input = input_new();
	pthread_mutex_lock(&lock);
	display_attach(display, &source, NULL);
	input_attach(input, &sink);
	display_refresh(display);
	pthread_mutex_unlock(&lock);
	strcpy(config.address[0], spec);
	if (password_file)
		strcpy(config.password_file, password_file);
	vnc = vnc_new(&config, &lock, display, input, error, sizeof error);
	if (!vnc) {
		printf("%s\n", error);
		CHECK(vnc);
		exit(summary());
	}
}

static void stop(void)
{
	struct stat st;

	vnc_free(vnc);
	CHECK(stat(path, &st) < 0);
	input_detach(input, &sink);
	input_free(input);
	display_detach(display);
	display_free(display);
	keys[0] = '\0';
}

static void pictures(void)
{
	unsigned x, y;
	bool resized;
	struct stat st;

	dot_x = 100;
	dot_y = 50;
	start(NULL);
	CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
	int fd = client();
	CHECK(enter(fd, 1, NULL));
	encodings(fd);
	ask(fd, false);
	CHECK_EQ(update(fd, &x, &y, &resized), 320 * 200);
	CHECK(x == 100 && y == 50);
	/* The dot moves: two tiles. */
	pthread_mutex_lock(&lock);
	dot_x = 319;
	dot_y = 199;
	pthread_mutex_unlock(&lock);
	ask(fd, true);
	unsigned pixels = update(fd, &x, &y, &resized);
	CHECK(pixels > 0 && pixels <= 2 * DISPLAY_TILE_WIDTH * DISPLAY_TILE_HEIGHT);
	CHECK(x == 319 && y == 199);
	/* A new size: it is told, and then asked for. */
	pthread_mutex_lock(&lock);
	width = 1000;
	height = 700;
	dot_x = 999;
	pthread_mutex_unlock(&lock);
	ask(fd, true);
	do
		update(fd, &x, &y, &resized);
	while (!resized && x != ~0u);
	CHECK(resized);
	ask(fd, false);
	CHECK_EQ(update(fd, &x, &y, &resized), 1000 * 700);
	CHECK(x == 999 && y == 199);
	close(fd);
	stop();
	width = 320;
	height = 200;
}

static void keyboard_and_pointer(void)
{
	start(NULL);
	int fd = client();
	CHECK(enter(fd, 1, NULL));
	key_event(fd, true, 'a');
	key_event(fd, false, 'a');
	typed("+30 -30 ");
	key_event(fd, true, 0xffe1); /* Shift, held by the user */
	key_event(fd, true, 'A');
	key_event(fd, false, 'A');
	key_event(fd, false, 0xffe1);
	typed("+42 +30 -30 -42 ");
	key_event(fd, true, '?'); /* from a layout that has it without Shift */
	key_event(fd, false, '?');
	typed("+42 +53 -42 -53 ");
	key_event(fd, true, 0xffe1); /* and one that has this with it */
	key_event(fd, true, '/');
	key_event(fd, false, '/');
	key_event(fd, false, 0xffe1);
	typed("+42 -42 +53 +42 -53 -42 ");
	key_event(fd, true, 0xffe5); /* Caps Lock: the guest's own */
	key_event(fd, false, 0xffe5);
	key_event(fd, true, 'B');
	key_event(fd, false, 'B');
	typed("+58 -58 +48 -48 ");
	key_event(fd, true, 0xff53);
	key_event(fd, true, 0xff53); /* it repeats */
	key_event(fd, false, 0xff53);
	key_event(fd, true, 0xffc9);
	key_event(fd, true, 0x20ac); /* no such key here */
	key_event(fd, true, 0xffffffff);
	typed("+106 +106 -106 +88 ");
	pointer_event(fd, 1, 319, 0);
	pointer_event(fd, 4 | 8, 0, 199);
	pointer_event(fd, 4, 65535, 65535);
	key_event(fd, true, ' ');
	typed("+57 ");
	CHECK_EQ(place_x, INPUT_POINTER_MAX);
	CHECK_EQ(place_y, INPUT_POINTER_MAX);
	CHECK_EQ(place_buttons, INPUT_RIGHT);
	CHECK_EQ(wheel, -1);
	close(fd); /* what is down is let go */
	typed("-57 -88 ");
	stop();
}

static void password(void)
{
	char file[80], right[] = "sesame", wrong[] = "sesam";
	FILE *f;

	snprintf(file, sizeof file, "%s.password", path);
	f = fopen(file, "w");
	fputs("sesame\n", f);
	fclose(f);
	start(file);
	int fd = client();
	CHECK(enter(fd, 2, right));
	close(fd);
	fd = client();
	CHECK(!enter(fd, 2, wrong));
	close(fd);
	fd = client();
	CHECK(!enter(fd, 1, NULL)); /* none at all */
	close(fd);
	stop();
	unlink(file);
}

/* Random bytes after a good beginning, messages that say they are large, and half ones: others are served all the same,
 * and nothing breaks. */
static void hostile(void)
{
	uint8_t junk[512];
	static const uint8_t starts[][8] = {
		{6, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff}, {6, 0, 0, 0, 0x80, 0, 0, 1}, {2, 0, 0xff, 0xff},
		{7, 1, 0, 0, 0, 0, 0xff, 0xff}, {251, 0, 0xff, 0xff, 0xff, 0xff, 255, 0}, {11, 0, 0xff, 0xff, 0xff},
		{0, 0, 0, 0, 64, 255, 1, 1}, {0, 0, 0, 0, 8, 8, 0, 0}, {15, 0, 0, 0}, {8, 0, 0, 0}, {250, 0, 1, 2},
	};
	int held[16];
	unsigned x, y;
	bool resized;

	start(NULL);
	for (unsigned i = 0; i < 22; i++) {
		int fd = client();

		if (i % 4 && !enter(fd, 1, NULL))
			CHECK(false);
		for (unsigned n = 0; n < sizeof junk; n++)
			junk[n] = (uint8_t)random64();
		memcpy(junk, starts[i % (sizeof starts / sizeof starts[0])], 8);
		put(fd, junk, i % 3 ? sizeof junk : 8 + random64() % 100);
		if (i % 2)
			ask(fd, false);
		close(fd);
	}
	/* More than there may be, who say nothing. */
	for (unsigned i = 0; i < 16; i++)
		held[i] = client();
	usleep(100000);
	for (unsigned i = 0; i < 16; i++)
		close(held[i]);
	int fd = -1;
	bool in = false;
	for (unsigned i = 0; i < 50 && !in; i++) { /* until their places are free */
		if (fd >= 0) {
			close(fd);
			usleep(100000);
		}
		fd = client();
		in = enter(fd, 1, NULL);
	}
	CHECK(in);
	/* One that asks and never reads. */
	int deaf = client();
	if (enter(deaf, 1, NULL))
		for (unsigned i = 0; i < 200; i++)
			ask(deaf, false);
	encodings(fd);
	ask(fd, false);
	CHECK_EQ(update(fd, &x, &y, &resized), 320 * 200);
	close(deaf);
	close(fd);
	stop();
}

/* A client has a picture made that is half as large, and then the screen becomes smaller than that. */
static void scaled(void)
{
	static const uint8_t half[] = {8, 2, 0, 0};
	uint8_t size[6];
	unsigned x, y;
	bool resized;

	dot_x = ~0u;
	start(NULL);
	int fd = client();
	CHECK(enter(fd, 1, NULL));
	put(fd, half, sizeof half);
	CHECK(get(fd, size, sizeof size) && size[2] == 0 && size[3] == 160 && size[4] == 0 && size[5] == 100);
	pthread_mutex_lock(&lock);
	width = 100;
	height = 40;
	pthread_mutex_unlock(&lock);
	encodings(fd);
	do
		ask(fd, false);
	while (update(fd, &x, &y, &resized) > 0 && !resized);
	CHECK(resized);
	ask(fd, false);
	CHECK_EQ(update(fd, &x, &y, &resized), 100 * 40);
	close(fd);
	stop();
	width = 320;
	height = 200;
}

/* Not spoken: it is answered as one that does not know the protocol. */
static void web_socket(void)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
				      "Origin: b\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
				      "Sec-WebSocket-Version: 13\r\n\r\n";
	char answer[13];

	start(NULL);
	int fd = client();
	CHECK(put(fd, request, sizeof request - 1));
	CHECK(get(fd, answer, 12) && memcmp(answer, "RFB 003.008\n", 12) == 0);
	CHECK(!get(fd, answer, 1));
	close(fd);
	stop();
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	snprintf(path, sizeof path, "/tmp/ringside-vnc-%d", (int)getpid());
	snprintf(spec, sizeof spec, "unix:%s", path);
	pictures();
	keyboard_and_pointer();
	password();
	hostile();
	scaled();
	web_socket();
	return summary();
}
