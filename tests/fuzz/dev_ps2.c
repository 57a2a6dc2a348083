/*
 * Fuzz target: the keyboard controller with keyboard and mouse. An input is a list of accesses by the guest, and of keys
 * and movements by the user, of whom neither need wait for the other.
 */
#include "driver.h"

#include "dev/i8042.h"
#include "mem/bus.h"
#include "ui/input.h"

static void line(void *opaque, unsigned number, int level) { (void)opaque, (void)number, (void)level; }
static void reset(void *opaque) { (void)opaque; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bus pio;
	struct fuzz_input in = {data, size};
	struct irq_line irq = {.set = line};
	uint64_t value;

	memset(&pio, 0, sizeof pio);
	struct input *input = input_new();
	struct i8042 *k = i8042_new(&pio, irq, irq, reset, NULL);
	if (!input || !k)
		abort();
	i8042_attach(k, input, true);
	while (in.size) {
		unsigned what = (unsigned)fuzz_take(&in, 1);

		switch (what % 8) {
		case 0:
			input_key(input, (unsigned)fuzz_take(&in, 1), what >> 3 & 1);
			break;
		case 1:
			input_pointer(input, (unsigned)fuzz_take(&in, 2), (unsigned)fuzz_take(&in, 2), what * 8, what,
				      (int)(int8_t)fuzz_take(&in, 1), what >> 3);
			break;
		case 2:
			bus_write(&pio, 0x60, 1, fuzz_take(&in, 1));
			break;
		case 3:
			bus_write(&pio, 0x64, 1, fuzz_take(&in, 1));
			break;
		case 4: /* to the mouse */
			bus_write(&pio, 0x64, 1, 0xd4);
			bus_write(&pio, 0x60, 1, what & 8 ? fuzz_take(&in, 1) : 0xe6 + what / 8 % 26);
			break;
		case 5:
			input_release_all(input);
			break;
		default:
			bus_read(&pio, what & 8 ? 0x64 : 0x60, 1, &value);
			break;
		}
	}
	i8042_free(k);
	input_free(input);
	return 0;
}
