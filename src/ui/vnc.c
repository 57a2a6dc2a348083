/*
 * The VNC server. See vnc.h.
 *
 * Owns its listening sockets, libvncserver's screen and clients, and the copy of the picture that they are sent from.
 * All of libvncserver is used on the one thread. What clients can make it hold is bounded: CLIENTS_MAX of them, one
 * message and one update each; clipboard, file transfer, chat, desktop size changes and WebSocket are off.
 */
#include "ui/vnc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <rfb/rfb.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <unistd.h>

#include <linux/input-event-codes.h>

#include "ui/address.h"
#include "ui/display.h"
#include "ui/input.h"
#include "ui/keysym.h"
#include "sandbox/sandbox.h"
#include "util/library.h"
#include "util/log.h"
#include "util/timer.h"

#define CLIENTS_MAX 8
#define STALL_MS 2000       /* a client that leaves a message half sent, or an update half read, so long is closed */
#define FRAME_NS 33000000ull
#define IDLE_FRAME_NS 100000000ull /* between looks at a picture that has not changed for IDLE_FRAMES of them */
#define IDLE_FRAMES 30u
#define FD_WAIT_MS 100
#define PASSWORD_MAX 64

/* VNC's button mask */
#define BUTTON_LEFT 1
#define BUTTON_MIDDLE 2
#define BUTTON_RIGHT 4
#define WHEEL_UP 8
#define WHEEL_DOWN 16

/* Of libvncserver, which is loaded for the first server. */
#define LIBRARY(X) \
	X(rfbNewClient) X(rfbNewFramebuffer) X(rfbGetClientIterator) X(rfbClientIteratorNext) \
	X(rfbReleaseClientIterator) X(rfbMarkRectAsModified) X(rfbProcessEvents) X(rfbGetScreen) \
	X(rfbInitServerWithPthreadsAndZRLE) X(rfbShutdownServer) X(rfbScreenCleanup) X(rfbLog) \
	X(rfbErr) X(rfbMaxClientWait) X(rfbCheckPasswordByList) X(rfbEncryptBytes)
static struct {
	LIBRARY(LIBRARY_POINTER)
} library;
static const struct library_symbol symbols[] = {LIBRARY(LIBRARY_SYMBOL) {0}};

struct vnc {
	pthread_mutex_t *lock;
	struct display *display;
	struct input *input;
	struct display_viewer viewer;
	struct address address[VNC_ADDRESSES];
	int listener[VNC_ADDRESSES];
	unsigned listeners;
	int wake_fd;
	bool stop; /* atomic */
	pthread_t thread;
	bool thread_started;
	/* the thread's own */
	rfbScreenInfoPtr screen;
	unsigned clients, unchanged;
	uint64_t next_frame;
	bool caps_lock;
	char password[PASSWORD_MAX], *passwords[2];
};

/* ---- keys and pointer ---- */

static void tap(struct vnc *v, unsigned code, bool down)
{
	input_key(v->input, code, down);
}

/* A symbol that needs Shift, or no Shift, other than the client has it: from a client whose keyboard is another one. */
static void key_with_shift(struct vnc *v, unsigned code, enum keysym_shift shift)
{
	bool left = input_is_down(v->input, KEY_LEFTSHIFT), right = input_is_down(v->input, KEY_RIGHTSHIFT);

	if (shift == KEYSYM_ANY || (left || right) == (shift == KEYSYM_SHIFTED)) {
		input_key(v->input, code, true);
		return;
	}
	if (shift == KEYSYM_SHIFTED) {
		tap(v, KEY_LEFTSHIFT, true);
		input_key(v->input, code, true);
		tap(v, KEY_LEFTSHIFT, false);
		return;
	}
	if (left)
		tap(v, KEY_LEFTSHIFT, false);
	if (right)
		tap(v, KEY_RIGHTSHIFT, false);
	input_key(v->input, code, true);
	if (left)
		tap(v, KEY_LEFTSHIFT, true);
	if (right)
		tap(v, KEY_RIGHTSHIFT, true);
}

static bool is_letter(rfbKeySym keysym) { return (keysym >= 'a' && keysym <= 'z') || (keysym >= 'A' && keysym <= 'Z'); }

static void key_event(rfbBool down, rfbKeySym keysym, rfbClientPtr client)
{
	struct vnc *v = client->screen->screenData;
	enum keysym_shift shift;
	unsigned code = keysym_code(keysym, &shift);

	if (!code)
		return;
	if (code == KEY_CAPSLOCK && down)
		v->caps_lock = !v->caps_lock;
	if (v->caps_lock && is_letter(keysym))
		shift = KEYSYM_ANY; /* the guest has that lock too */
	pthread_mutex_lock(v->lock);
	if (down)
		key_with_shift(v, code, shift);
	else
		input_key(v->input, code, false);
	pthread_mutex_unlock(v->lock);
}

static void pointer_event(int mask, int x, int y, rfbClientPtr client)
{
	struct vnc *v = client->screen->screenData;
	unsigned buttons = (mask & BUTTON_LEFT ? INPUT_LEFT : 0) | (mask & BUTTON_RIGHT ? INPUT_RIGHT : 0) |
			   (mask & BUTTON_MIDDLE ? INPUT_MIDDLE : 0);
	int dz = (mask & WHEEL_DOWN ? 1 : 0) - (mask & WHEEL_UP ? 1 : 0);

	if (x < 0 || y < 0)
		return;
	pthread_mutex_lock(v->lock);
	input_pointer(v->input, (unsigned)x, (unsigned)y, (unsigned)client->screen->width,
		      (unsigned)client->screen->height, dz, buttons);
	pthread_mutex_unlock(v->lock);
}

/* ---- clients ---- */

static void client_gone(rfbClientPtr client)
{
	struct vnc *v = client->screen->screenData;

	LOG(LOG_VNC, "client has gone");
	v->clients--;
	pthread_mutex_lock(v->lock);
	input_release_all(v->input);
	pthread_mutex_unlock(v->lock);
}

static enum rfbNewClientAction client_new(rfbClientPtr client)
{
	struct vnc *v = client->screen->screenData;

	if (v->clients >= CLIENTS_MAX)
		return RFB_CLIENT_REFUSE;
	v->clients++;
	client->clientGoneHook = client_gone;
	v->next_frame = 0; /* it is to see the picture as it is now */
	LOG(LOG_VNC, "client has come, %u now", v->clients);
	return RFB_CLIENT_ACCEPT;
}

/* Takes the place of libvncserver's function of this name, which looks for a client that speaks WebSocket (the Makefile
 * exports it). What it keeps of one is never freed, 45 KiB each, and the look makes every client wait for 100 ms. */
rfbBool webSocketsCheck(rfbClientPtr client);
rfbBool webSocketsCheck(rfbClientPtr client)
{
	(void)client;
	return TRUE;
}

static void accept_client(struct vnc *v, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			poll(NULL, 0, FD_WAIT_MS); /* it would be asked for again at once */
		return;
	}
	if (fd >= FD_SETSIZE || v->clients >= CLIENTS_MAX) /* libvncserver uses select(2) */
		close(fd);
	else
		library.rfbNewClient(v->screen, fd);
}

/* ---- the picture ---- */

static void set_format(rfbScreenInfoPtr s)
{
	s->serverFormat.redShift = 16;
	s->serverFormat.greenShift = 8;
	s->serverFormat.blueShift = 0;
}

/* The smaller pictures that clients have asked for go with the one that they were made from: libvncserver would keep all
 * of them, and divides by zero when its screen becomes smaller than a picture scaled from it. */
static void end_scaling(struct vnc *v)
{
	rfbScreenInfoPtr screen = v->screen, scaled;

	rfbClientIteratorPtr i = library.rfbGetClientIterator(screen);
	for (rfbClientPtr c = library.rfbClientIteratorNext(i); c; c = library.rfbClientIteratorNext(i)) {
		c->scaledScreen->scaledScreenRefCount--;
		c->scaledScreen = screen;
		screen->scaledScreenRefCount++;
	}
	library.rfbReleaseClientIterator(i);
	while ((scaled = screen->scaledScreenNext)) {
		screen->scaledScreenNext = scaled->scaledScreenNext;
		free(scaled->frameBuffer);
		free(scaled);
	}
}

/* The framebuffer that clients are sent has the display's size. False: no memory, the old one stays. Lock held. */
static bool resize(struct vnc *v)
{
	unsigned width = display_width(v->display), height = display_height(v->display);
	char *old = v->screen->frameBuffer, *new = calloc((size_t)width * height, sizeof(uint32_t));

	if (!new)
		return false;
	if (!old) {
		v->screen->frameBuffer = new;
		v->screen->width = (int)width;
		v->screen->height = (int)height;
		v->screen->paddedWidthInBytes = (int)(width * sizeof(uint32_t));
		v->screen->sizeInBytes = v->screen->paddedWidthInBytes * (int)height;
		return true;
	}
	end_scaling(v);
	library.rfbNewFramebuffer(v->screen, new, (int)width, (int)height, 8, 3, 4);
	set_format(v->screen);
	rfbClientIteratorPtr i = library.rfbGetClientIterator(v->screen);
	for (rfbClientPtr c = library.rfbClientIteratorNext(i); c; c = library.rfbClientIteratorNext(i))
		v->screen->setTranslateFunction(c);
	library.rfbReleaseClientIterator(i);
	free(old);
	return true;
}

static unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }

/* Copies tiles [first, end) of a row of them. Lock held. */
static void copy_tiles(struct vnc *v, unsigned row, unsigned first, unsigned end)
{
	unsigned width = (unsigned)v->screen->width, height = (unsigned)v->screen->height;
	unsigned x0 = first * DISPLAY_TILE_WIDTH, x1 = min(end * DISPLAY_TILE_WIDTH, width);
	unsigned y0 = row * DISPLAY_TILE_HEIGHT, y1 = min(y0 + DISPLAY_TILE_HEIGHT, height);

	if (x0 >= x1 || y0 >= y1)
		return;
	for (unsigned y = y0; y < y1; y++)
		memcpy((uint32_t *)(void *)v->screen->frameBuffer + (size_t)y * width + x0,
		       display_line(v->display, y) + x0, (x1 - x0) * sizeof(uint32_t));
	library.rfbMarkRectAsModified(v->screen, (int)x0, (int)y0, (int)x1, (int)y1);
}

static void take_picture(struct vnc *v)
{
	bool changed = false;

	pthread_mutex_lock(v->lock);
	display_refresh(v->display);
	if (v->viewer.resized && !resize(v)) {
		pthread_mutex_unlock(v->lock);
		return;
	}
	v->viewer.resized = false;
	for (unsigned row = 0; row < DISPLAY_TILE_ROWS; row++) {
		uint64_t tiles = v->viewer.changed[row];

		for (unsigned first = 0; tiles >> first; changed = true) {
			unsigned end;

			first += (unsigned)__builtin_ctzll(tiles >> first);
			for (end = first; end < 64 && (tiles >> end & 1); end++)
				;
			copy_tiles(v, row, first, end);
			if ((first = end) == 64)
				break;
		}
		v->viewer.changed[row] = 0;
	}
	pthread_mutex_unlock(v->lock);
	v->unchanged = changed ? 0 : v->unchanged + 1;
	v->next_frame = clock_now() + (v->unchanged > IDLE_FRAMES ? IDLE_FRAME_NS : FRAME_NS);
}

/* ---- the thread ---- */

static int poll_timeout(const struct vnc *v)
{
	uint64_t now = clock_now();

	if (v->clients == 0)
		return -1;
	return v->next_frame <= now ? 0 : (int)((v->next_frame - now) / 1000000) + 1;
}

static void wait_for_work(struct vnc *v, struct pollfd *set)
{
	unsigned n = 0;

	set[n++] = (struct pollfd){.fd = v->wake_fd, .events = POLLIN};
	for (unsigned i = 0; i < v->listeners; i++)
		set[n++] = (struct pollfd){.fd = v->listener[i], .events = POLLIN};
	rfbClientIteratorPtr it = library.rfbGetClientIterator(v->screen);
	for (rfbClientPtr c = library.rfbClientIteratorNext(it); c && n < 1 + VNC_ADDRESSES + CLIENTS_MAX;
	     c = library.rfbClientIteratorNext(it))
		set[n++] = (struct pollfd){.fd = c->sock, .events = c->onHold ? POLLOUT : POLLIN};
	library.rfbReleaseClientIterator(it);
	poll(set, n, poll_timeout(v));
}

/* A client whose last update is still on its way is left alone, as a write to it would wait. */
static void hold_slow_clients(struct vnc *v)
{
	rfbClientIteratorPtr it = library.rfbGetClientIterator(v->screen);

	for (rfbClientPtr c = library.rfbClientIteratorNext(it); c; c = library.rfbClientIteratorNext(it)) {
		struct pollfd set = {.fd = c->sock, .events = POLLOUT};

		c->onHold = poll(&set, 1, 0) == 0;
	}
	library.rfbReleaseClientIterator(it);
}

static void *serve(void *opaque)
{
	struct vnc *v = opaque;
	struct pollfd set[1 + VNC_ADDRESSES + CLIENTS_MAX];

	sandbox_enter(SANDBOX_SCREEN);
	while (!__atomic_load_n(&v->stop, __ATOMIC_ACQUIRE)) {
		wait_for_work(v, set);
		for (unsigned i = 0; i < v->listeners; i++)
			if (set[1 + i].revents)
				accept_client(v, v->listener[i]);
		if (v->clients && clock_now() >= v->next_frame)
			take_picture(v);
		if (v->screen->clientHead) {
			hold_slow_clients(v);
			library.rfbProcessEvents(v->screen, 0);
		}
	}
	return NULL;
}

/* ---- life ---- */

static void log_line(const char *format, ...)
{
	char line[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof line, format, ap);
	va_end(ap);
	line[strcspn(line, "\n")] = '\0';
	LOG(LOG_VNC, "%s", line);
}

static bool read_password(struct vnc *v, const char *path, char *error, size_t size)
{
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(v->password, sizeof v->password, f);

	if (f)
		fclose(f);
	v->password[strcspn(v->password, "\r\n")] = '\0';
	if (ok && v->password[0]) {
		v->passwords[0] = v->password;
		return true;
	}
	snprintf(error, size, "--vnc: password file %s: %s", path, f ? "it has no password" : strerror(errno));
	return false;
}

static bool listen_at(struct vnc *v, const char *text, char *error, size_t size)
{
	int fd = address_parse(&v->address[v->listeners], text);

	if (fd == 0)
		fd = address_listen(&v->address[v->listeners]);
	if (fd < 0) {
		snprintf(error, size, "--vnc %s: %s", text, strerror(-fd));
		return false;
	}
	v->listener[v->listeners++] = fd;
	return true;
}

/* libgcrypt looks at files and writes to the system's log when it is first used: now, and not for the first client that
 * sends a password, when the sandbox would not let it. */
static void prepare_cryptography(void)
{
	unsigned char challenge[CHALLENGESIZE] = {0};

	library.rfbEncryptBytes(challenge, (char[]){""});
}

static bool new_screen(struct vnc *v)
{
	*library.rfbLog = log_line;
	*library.rfbErr = log_line;
	prepare_cryptography();
	rfbScreenInfoPtr s = v->screen = library.rfbGetScreen(NULL, NULL, 640, 400, 8, 3, 4);

	if (!s)
		return false;
	set_format(s);
	s->desktopName = "Ringside";
	s->screenData = v;
	s->autoPort = FALSE;
	s->port = s->ipv6port = 0; /* the sockets are ours */
	s->httpDir = NULL;
	s->alwaysShared = TRUE;
	s->permitFileTransfer = FALSE;
	s->cursor = NULL;
	s->deferUpdateTime = 0;
	s->maxClientWait = *library.rfbMaxClientWait = STALL_MS;
	s->kbdAddEvent = key_event;
	s->ptrAddEvent = pointer_event;
	s->newClientHook = client_new;
	if (v->passwords[0]) {
		s->authPasswdData = v->passwords;
		s->passwordCheck = library.rfbCheckPasswordByList;
	}
	pthread_mutex_lock(v->lock);
	display_add_viewer(v->display, &v->viewer);
	bool ok = resize(v);
	pthread_mutex_unlock(v->lock);
	if (ok)
		library.rfbInitServerWithPthreadsAndZRLE(s);
	return ok;
}

struct vnc *vnc_new(const struct vnc_config *config, pthread_mutex_t *lock, struct display *display,
		    struct input *input, char *error, size_t size)
{
	struct vnc *v = calloc(1, sizeof *v);

	if (!v) {
		snprintf(error, size, "--vnc: out of memory");
		return NULL;
	}
	if (!library_load("libvncserver.so.1", symbols, error, size)) {
		free(v);
		return NULL;
	}
	v->lock = lock;
	v->display = display;
	v->input = input;
	v->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (config->password_file[0] && !read_password(v, config->password_file, error, size))
		goto fail;
	for (unsigned i = 0; i < config->addresses; i++)
		if (!listen_at(v, config->address[i], error, size))
			goto fail;
	if (v->wake_fd < 0 || !new_screen(v) || pthread_create(&v->thread, NULL, serve, v) != 0) {
		snprintf(error, size, "--vnc: out of memory");
		goto fail;
	}
	v->thread_started = true;
	return v;
fail:
	vnc_free(v);
	return NULL;
}

void vnc_free(struct vnc *v)
{
	if (!v)
		return;
	if (v->thread_started) {
		uint64_t one = 1;

		__atomic_store_n(&v->stop, true, __ATOMIC_RELEASE);
		if (write(v->wake_fd, &one, sizeof one) == sizeof one)
			pthread_join(v->thread, NULL);
	}
	if (v->screen) {
		char *picture = v->screen->frameBuffer;

		pthread_mutex_lock(v->lock);
		display_remove_viewer(v->display, &v->viewer);
		pthread_mutex_unlock(v->lock);
		library.rfbShutdownServer(v->screen, TRUE);
		library.rfbScreenCleanup(v->screen);
		free(picture);
	}
	while (v->listeners) {
		close(v->listener[--v->listeners]);
		address_unlink(&v->address[v->listeners]);
	}
	if (v->wake_fd >= 0)
		close(v->wake_fd);
	explicit_bzero(v->password, sizeof v->password);
	free(v);
}
