/*
 * A screen of characters in a terminal that is a pair of pipes: what is drawn, what changes of it is, and keys.
 */
#include "ui/terminal_screen.h"

#include <fcntl.h>
#include <unistd.h>

#include "dev_fixture.h"
#include "ui/chardev.h"
#include "ui/display.h"
#include "ui/input.h"
#include "util/loop.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct display_text picture;
static bool graphics;
static char keys[1024];

static void draw(void *opaque, struct display *d) { (void)opaque, (void)d; }

static bool text(void *opaque, struct display_text *t)
{
	(void)opaque;
	*t = picture;
	return !graphics;
}

static const struct display_source source = {.draw = draw, .text = text};

static void key(void *opaque, unsigned code, bool down)
{
	(void)opaque;
	sprintf(keys + strlen(keys), "%s%u ", down ? "+" : "-", code);
}

static struct input_sink sink = {.key = key};
static struct loop *loop;
static int to_screen[2], from_screen[2];

/* What the terminal got in the time of a few pictures. */
static const char *drawn(void)
{
	static char text[1 << 20];
	size_t len = 0;
	ssize_t n;

	for (unsigned i = 0; i < 200; i++) {
		stall(50 * MILLISECOND);
		if (i % 20 == 0) {
			loop_wake(loop);
			loop_turn(loop);
		}
		while ((n = read(from_screen[0], text + len, sizeof text - len - 1)) > 0)
			len += (size_t)n;
	}
	text[len] = '\0';
	return text;
}

static void type(const char *bytes, const char *expected)
{
	keys[0] = '\0';
	CHECK(write(to_screen[1], bytes, strlen(bytes)) == (ssize_t)strlen(bytes));
	loop_turn(loop);
	if (strcmp(keys, expected) != 0)
		printf("typed %s: \"%s\", not \"%s\"\n", bytes, keys, expected);
	CHECK(strcmp(keys, expected) == 0);
}

int main(void)
{
	fixture_start();
	pthread_mutex_lock(&lock);
	loop = loop_new(&lock);
	CHECK(pipe(to_screen) == 0 && pipe(from_screen) == 0);
	fcntl(from_screen[0], F_SETFL, O_NONBLOCK);
	struct chardev *terminal = chardev_new_fds(loop, to_screen[0], from_screen[1], NULL);
	struct display *display = display_new();
	struct input *input = input_new();
	input_attach(input, &sink);
	display_attach(display, &source, NULL);
	picture.columns = 80;
	picture.rows = 25;
	picture.cursor_row = picture.cursor_column = 2;
	picture.cell[0] = 0x1e00 | 'H';
	picture.cell[1] = 0x1e00 | 'i';
	picture.cell[81] = 0x07c4; /* a line */
	struct terminal_screen *s = terminal_screen_new(terminal, queue, display, input);
	const char *t = drawn();
	CHECK(strstr(t, "\033[1;1H\033[0;93;44mHi\033[0;30;40m ") != NULL);
	CHECK(strstr(t, "\033[0;37;40m\xe2\x94\x80") != NULL);
	CHECK(strlen(t) > 14 && strcmp(t + strlen(t) - 12, "\033[?25h\033[3;3H") == 0);
	CHECK(drawn()[0] == '\0'); /* nothing has changed */
	picture.cell[25 * 80 - 1] = 0x0700 | '!';
	CHECK(strcmp(drawn(), "\033[25;80H\033[0;37;40m!\033[?25h\033[3;3H") == 0);
	picture.cursor_row = -1;
	CHECK(strcmp(drawn(), "\033[?25l") == 0);
	graphics = true;
	CHECK(strstr(drawn(), "graphics") != NULL);
	CHECK(drawn()[0] == '\0');
	graphics = false;
	CHECK(strstr(drawn(), "Hi") != NULL);

	type("aZ", "+30 -30 +42 +44 -44 -42 ");
	type("\r\t\x7f", "+28 -28 +15 -15 +14 -14 ");
	type("\x03", "+29 +46 -46 -29 ");
	type("\x1b", "+1 -1 ");
	type("\x1bx", "+56 +45 -45 -56 ");
	type("\x1b[A\x1bOB\x1b[5~\x1b[24~", "+103 -103 +108 -108 +104 -104 +88 -88 ");
	type("\x1b[1;5C", "+29 +106 -106 -29 ");
	type("\x1b[Z", "+42 +15 -15 -42 ");
	type("\x1b[99999999999999999999~", "+10 -10 +10 -10 +10 -10 +10 -10 +10 -10 +10 -10 +42 +41 -41 -42 ");
	type("\xc3\xa9", ""); /* not on this keyboard */
	for (unsigned i = 0; i < 100; i++) {
		char junk[64];

		keys[0] = '\0';
		for (unsigned n = 0; n < sizeof junk; n++)
			junk[n] = random64() % 3 ? "\x1b[O;0123456789~AZ"[random64() % 17] : (char)random64();
		CHECK(write(to_screen[1], junk, 20) == 20);
		loop_turn(loop);
	}
	/* A terminal that takes nothing: the screen goes on, with bounded memory. */
	for (unsigned i = 0; i < 2000; i++) {
		for (unsigned n = 0; n < 2000; n++)
			picture.cell[n] = (uint16_t)random64();
		stall(50 * MILLISECOND);
	}
	CHECK(strlen(drawn()) > 1000);

	terminal_screen_free(s);
	CHECK(strstr(drawn(), "\033[?7h") != NULL);
	chardev_free(terminal);
	display_detach(display);
	display_free(display);
	input_detach(input, &sink);
	input_free(input);
	loop_free(loop);
	pthread_mutex_unlock(&lock);
	fixture_stop();
	return summary();
}
