/*
 * Hostile VNC clients: an input is what up to three of them do at once: greetings, passwords, messages of every type with
 * fields that do not fit, WebSocket requests, plain bytes; in pieces, cut off anywhere, with answers read or not; while
 * the picture changes and takes any size. The server is ours on libvncserver, thread and all, at a Unix socket.
 * Besides what every target must not do: keys and pointer that arrive exist, none is left down, and the next client that
 * keeps to the protocol is served.
 */
// LIBS: -lvncserver
#include "driver.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <rfb/rfbproto.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ui/address.h"
#include "ui/display.h"
#include "ui/input.h"
#include "ui/vnc.h"

#define CLIENTS 3u
#define STEPS 40u
#define LARGE_SCREENS 2u /* an input: each may have ten million pixels */
#define SETTLE_US 2000u
#define PATIENCE_MS 60000 /* for the client that does nothing wrong */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char path[64], password_file[80], password[] = "sesame";
static unsigned width, height;
static uint32_t color;

static void draw(void *opaque, struct display *d)
{
	static uint32_t line[DISPLAY_WIDTH_MAX];

	(void)opaque;
	display_resize(d, width, height);
	for (unsigned x = 0; x < DISPLAY_WIDTH_MAX; x++)
		line[x] = (color * x) >> 8;
	for (unsigned y = color % 32; y < display_height(d); y += 32)
		display_put_line(d, y, line);
}

static const struct display_source source = {.draw = draw};

static void key(void *opaque, unsigned code, bool down)
{
	(void)opaque, (void)down;
	if (!code || code >= INPUT_CODES)
		abort();
}

static void place(void *opaque, unsigned x, unsigned y, int dz, unsigned buttons)
{
	(void)opaque;
	if (x > INPUT_POINTER_MAX || y > INPUT_POINTER_MAX || dz < -1 || dz > 1 || buttons > 7)
		abort();
}

static void move(void *opaque, int dx, int dy, int dz, unsigned buttons)
{
	(void)opaque, (void)dx, (void)dy;
	if (dz < -1 || dz > 1 || buttons > 7)
		abort();
}

/* ---- a client ---- */

static int client(void)
{
	struct address a;
	char text[80];

	snprintf(text, sizeof text, "unix:%s", path);
	if (address_parse(&a, text) < 0)
		abort();
	for (;;) {
		int fd = address_connect(&a);

		if (fd >= 0)
			return fd;
		if (fd != -EINTR)
			abort();
	}
}

/* Until the server has read what was sent, or waits for more, or for a moment. Answers are thrown away. */
static void settle(int fd, bool read_answers)
{
	static char junk[65536];
	int unread = 1;

	for (unsigned us = 0; us < SETTLE_US && unread; us += 50) {
		if (read_answers)
			while (recv(fd, junk, sizeof junk, MSG_DONTWAIT) > 0)
				;
		if (ioctl(fd, SIOCOUTQ, &unread) < 0)
			return;
		if (unread)
			usleep(50);
	}
}

static void put(int fd, const void *bytes, size_t len, bool read_answers)
{
	if (len && send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		settle(fd, read_answers);
}

/* A greeting as it should be, and then up to where the input says: version, security, password, ClientInit. */
static size_t greeting(struct fuzz_input *in, uint8_t *m, bool with_password)
{
	static const char *const version[] = {"RFB 003.008\n", "RFB 003.007\n", "RFB 003.003\n", "RFB 003.889\n"};
	unsigned how = (unsigned)fuzz_take(in, 1);
	size_t len = 12;

	memcpy(m, version[how & 3], 12);
	if ((how & 3) != 2)
		m[len++] = how & 4 ? (uint8_t)fuzz_take(in, 1) : with_password ? 2 : 1;
	if (with_password) /* the challenge was not looked at */
		for (unsigned i = 0; i < 16; i++)
			m[len++] = (uint8_t)(how >> 4);
	m[len++] = how & 8;
	return len;
}

/* A message of a type that libvncserver knows: of the right length mostly, so that the next one is read as such. */
static size_t message(struct fuzz_input *in, uint8_t *m)
{
	static const struct {
		uint8_t type, size;
	} types[] = {{rfbSetPixelFormat, sz_rfbSetPixelFormatMsg}, {rfbSetEncodings, 4}, {rfbSetEncodings, 4},
		     {rfbFramebufferUpdateRequest, sz_rfbFramebufferUpdateRequestMsg},
		     {rfbFramebufferUpdateRequest, sz_rfbFramebufferUpdateRequestMsg}, {rfbKeyEvent, sz_rfbKeyEventMsg},
		     {rfbPointerEvent, sz_rfbPointerEventMsg}, {rfbClientCutText, sz_rfbClientCutTextMsg},
		     {rfbFixColourMapEntries, sz_rfbFixColourMapEntriesMsg}, {rfbFileTransfer, sz_rfbFileTransferMsg},
		     {rfbSetScale, sz_rfbSetScaleMsg}, {rfbPalmVNCSetScaleFactor, sz_rfbPalmVNCSetScaleFactorMsg},
		     {rfbSetServerInput, sz_rfbSetServerInputMsg}, {rfbSetSW, sz_rfbSetSWMsg},
		     {rfbTextChat, sz_rfbTextChatMsg}, {rfbXvp, sz_rfbXvpMsg},
		     {rfbSetDesktopSize, sz_rfbSetDesktopSizeMsg}, {252, 4}, {255, 12}};
	static const int32_t encodings[] = {0, 1, 2, 4, 5, 6, 7, 8, 9, 15, 16, 17, 22, -1, -23, -24, -32, -223, -224, -232,
					    -239, -240, -256, -247, -307, -308, -309, -313, -412, -512, -763, -768,
					    (int32_t)0xffff0000, (int32_t)0xffff0001, (int32_t)0xffff0003,
					    (int32_t)0xffff8000, (int32_t)0xffff8003, (int32_t)0xffff8005,
					    (int32_t)0xfffe0000, (int32_t)0xfffe0002, (int32_t)0xfffe0003,
					    (int32_t)0xc0a1e5ce, (int32_t)0xc0a1e5cf};
	unsigned how = (unsigned)fuzz_take(in, 1), which = how % (sizeof types / sizeof types[0]);
	size_t len = types[which].size;

	memset(m, 0, len);
	m[0] = types[which].type;
	if (m[0] == rfbSetEncodings) { /* of those that there are */
		unsigned n = (unsigned)fuzz_take(in, 1) % 24;

		m[3] = (uint8_t)n;
		for (unsigned i = 0; i < n; i++) {
			uint8_t pick = (uint8_t)fuzz_take(in, 1);
			int32_t e = encodings[pick % (sizeof encodings / sizeof encodings[0])];

			if (e < -200 && e > -300) /* qualities and levels of compression */
				e += pick >> 6;
			for (unsigned shift = 32; shift;)
				m[len++] = (uint8_t)((uint32_t)e >> (shift -= 8));
		}
	} else if (m[0] == rfbFramebufferUpdateRequest && how < 192) { /* for all that there is */
		m[1] = how & 1;
		memset(m + 6, 0xff, 4);
	} else if (m[0] == rfbSetPixelFormat && how < 192) {
		static const uint8_t bits[] = {8, 16, 32, 24};

		m[4] = bits[fuzz_take(in, 1) & 3];
		for (size_t i = 5; i < 17; i++)
			m[i] = (uint8_t)fuzz_take(in, 1);
	} else if (m[0] == rfbSetScale || m[0] == rfbPalmVNCSetScaleFactor) {
		m[1] = (uint8_t)fuzz_take(in, 1) % 10;
	} else {
		for (size_t i = 1; i < len; i++)
			m[i] = (uint8_t)fuzz_take(in, 1);
		if (m[0] == rfbClientCutText && how < 192) { /* as long as it says, or a clipboard that is extended */
			uint8_t n = (uint8_t)fuzz_take(in, 1) % 64;

			memset(m + 4, how & 1 ? 0xff : 0, 4);
			m[7] = how & 1 ? (uint8_t)-n : n;
			for (; n; n--)
				m[len++] = (uint8_t)fuzz_take(in, 1);
		}
	}
	return len;
}

static size_t web_socket(struct fuzz_input *in, uint8_t *m)
{
	unsigned how = (unsigned)fuzz_take(in, 1);
	char *text = (char *)m;
	int len = sprintf(text, "GET /%s HTTP/1.1\r\n%s%s%s%s\r\n", how & 1 ? "websockify" : "",
			  how & 2 ? "Host: a\r\nOrigin: b\r\n" : "", how & 4 ? "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n" : "",
			  how & 8 ? "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: binary\r\n" : "",
			  how & 16 ? "Upgrade: websocket\r\nConnection: Upgrade\r\n" : "");

	while (how & 32 && in->size && len < 1000) { /* frames, with lengths of 7, 16 and 64 bits, masked or not */
		m[len++] = (uint8_t)fuzz_take(in, 1);
		for (unsigned n = 1 + (unsigned)fuzz_take(in, 1) % 16; n; n--)
			m[len++] = (uint8_t)fuzz_take(in, 1);
	}
	return (size_t)len;
}

/* One that does as it should is told who serves it, and the size of the screen. */
static void good_client(bool with_password)
{
	static const char expected[] = "RFB 003.008\n";
	static const char hello[] = {'R', 'F', 'B', ' ', '0', '0', '3', '.', '0', '0', '8', '\n', 1, 1};
	uint8_t answer[12 + 2 + 4 + 24];
	size_t got = 0, want = with_password ? 12 : sizeof answer;
	int fd = client();

	/* Nothing follows the version where a password is wanted. */
	if (send(fd, hello, with_password ? 12 : sizeof hello, MSG_NOSIGNAL) < 0)
		abort();
	while (got < want) {
		struct pollfd set = {.fd = fd, .events = POLLIN};
		ssize_t n = poll(&set, 1, PATIENCE_MS) > 0 ? recv(fd, answer + got, want - got, 0) : -1;

		if (n < 0 && errno == EINTR) /* libFuzzer's alarm */
			continue;
		if (n <= 0)
			abort();
		got += (size_t)n;
	}
	if (memcmp(answer, expected, 12) != 0 || (!with_password && memcmp(answer + 12, "\1\1\0\0\0", 6) != 0))
		abort();
	close(fd);
}

/* ---- an input ---- */

static void set_size(struct fuzz_input *in, unsigned *large)
{
	unsigned how = (unsigned)fuzz_take(in, 1), w = (unsigned)fuzz_take(in, how & 1 ? 2 : 1);
	unsigned h = (unsigned)fuzz_take(in, how & 2 ? 2 : 1);

	if (w * (uint64_t)h > 300 * 300 && ++*large > LARGE_SCREENS)
		w = h = how;
	pthread_mutex_lock(&lock);
	width = w; /* any: the display cuts them */
	height = h;
	color += 0x10305;
	pthread_mutex_unlock(&lock);
}

static void remove_files(void)
{
	unlink(password_file);
	unlink(path);
}

static void prepare(void)
{
	FILE *f;

	if (path[0])
		return;
	snprintf(path, sizeof path, "/tmp/ringside-vnc-clients-%d", (int)getpid());
	snprintf(password_file, sizeof password_file, "%s.password", path);
	f = fopen(password_file, "w");
	if (!f || fprintf(f, "%s\n", password) < 0 || fclose(f) != 0)
		abort();
	atexit(remove_files);
}

static void run_clients(struct fuzz_input *in, bool with_password)
{
	static uint8_t m[2048];
	int fd[CLIENTS] = {-1, -1, -1};
	unsigned large = 0;

	for (unsigned step = 0; step < STEPS && in->size; step++) {
		unsigned how = (unsigned)fuzz_take(in, 1), n = how >> 4 & 3, what = how & 7;
		size_t len = 0, cut;
		bool read_answers = how & 8;

		if (n == CLIENTS) {
			set_size(in, &large);
			continue;
		}
		if (fd[n] < 0) {
			fd[n] = client();
			len = what == 7 ? web_socket(in, m) : what ? greeting(in, m, with_password) : 0;
		} else if (what == 7 && how & 128) {
			close(fd[n]);
			fd[n] = -1;
			continue;
		} else if (what == 7) {
			shutdown(fd[n], how & 64 ? SHUT_WR : SHUT_RD);
			continue;
		}
		for (unsigned messages = what % 7; messages && len < 1024; messages--)
			len += message(in, m + len);
		for (unsigned i = what ? 0 : (unsigned)fuzz_take(in, 1); i; i--)
			m[len++] = (uint8_t)fuzz_take(in, 1);
		cut = how & 64 ? fuzz_take(in, 2) % (len + 1) : len;
		put(fd[n], m, cut, read_answers);
		if (!(how & 128)) /* the rest does come */
			put(fd[n], m + cut, len - cut, read_answers);
	}
	for (unsigned n = 0; n < CLIENTS; n++)
		if (fd[n] >= 0)
			close(fd[n]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	unsigned how = (unsigned)fuzz_take(&in, 1);
	struct input_sink sink = {.key = key, .place = how & 1 ? place : NULL, .move = move};
	struct vnc_config config = {.addresses = 1};
	bool with_password = how % 8 == 7;
	char error[256];

	prepare();
	snprintf(config.address[0], sizeof config.address[0], "unix:%s", path);
	if (with_password)
		memcpy(config.password_file, password_file, sizeof password_file);
	width = 64;
	height = 40;
	struct display *display = display_new();
	struct input *input = input_new();
	if (!display || !input)
		abort();
	display_attach(display, &source, NULL);
	input_attach(input, &sink);
	struct vnc *vnc = vnc_new(&config, &lock, display, input, error, sizeof error);
	if (!vnc) {
		fprintf(stderr, "%s\n", error);
		abort();
	}
	run_clients(&in, with_password);
	good_client(with_password);
	vnc_free(vnc);
	for (unsigned code = 0; code < INPUT_CODES; code++)
		if (input_is_down(input, code))
			abort();
	input_detach(input, &sink);
	input_free(input);
	display_detach(display);
	display_free(display);
	return 0;
}
