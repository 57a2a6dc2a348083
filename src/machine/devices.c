/*
 * Puts devices in front of the VM's backends. See devices.h.
 */
#include "machine/devices.h"

#include <errno.h>
#include <unistd.h>

#include "dev/ahci.h"
#include "dev/e1000.h"
#include "dev/ide.h"
#include "dev/vga.h"
#include "machine/pc.h"
#include "machine/vm.h"
#include "sandbox/sandbox.h"
#include "virtio/balloon.h"
#include "virtio/blk.h"
#include "virtio/console.h"
#include "virtio/input.h"
#include "virtio/net.h"
#include "virtio/p9.h"
#include "virtio/rng.h"
#include "virtio/vsock.h"
#include "virtio/scsi.h"

/* Puts a device just made into the list, to be freed by `free`. NULL: it could not be made, errno says why. */
static int keep(struct vm *vm, void *device, void (*free)(void *device))
{
	struct devices *d = &vm->devices;

	if (!device)
		return -errno;
	if (d->count == DEVICES_MAX) {
		free(device);
		return -ENOSPC;
	}
	d->list[d->count].device = device;
	d->list[d->count++].free = free;
	return 0;
}

#define VGA_BIOS "/usr/share/seabios/vgabios-stdvga.bin" /* of Debian's seabios */

static void free_vga(void *device) { vga_free(device); }

static int new_vga(struct vm *vm)
{
	const struct vga_config config = {
		.memory = &vm->memory,
		.pio = &vm->pio,
		.mmio = &vm->mmio,
		.timers = vm->timers,
		.pci = vm->pc->pci,
		.devfn = -1,
		.rom = sandbox_can_open(VGA_BIOS) ? VGA_BIOS : NULL,
		.display = vm->backends.screen.display,
	};

	if (!config.display)
		return 0;
	vm->devices.vga = vga_new(&config);
	return keep(vm, vm->devices.vga, free_vga);
}

static void free_input(void *device) { virtio_input_free(device); }

static int new_inputs(struct vm *vm)
{
	unsigned wanted = screen_input(&vm->config.backends.screen);
	struct input *input = vm->backends.screen.input;
	int r = 0;

	if (wanted & SCREEN_KEYBOARD)
		r = keep(vm, virtio_input_new(vm->pc->pci, vm->loop, input, VIRTIO_INPUT_KEYBOARD), free_input);
	if (r == 0 && (wanted & SCREEN_TABLET))
		r = keep(vm, virtio_input_new(vm->pc->pci, vm->loop, input, VIRTIO_INPUT_TABLET), free_input);
	return r;
}

static void free_blk(void *device) { virtio_blk_free(device); }

static int new_virtio_disks(struct vm *vm)
{
	struct backends *b = &vm->backends;

	for (unsigned i = 0; i < b->disk_count; i++) {
		const struct disk_config *disk = &vm->config.backends.disk[i];
		const struct virtio_blk_config config = {
			.pci = vm->pc->pci,
			.devfn = -1,
			.loop = vm->loop,
			.block = b->disk[i],
			.serial = disk->serial,
			.queues = vm->vcpu_count,
		};

		int r = disk->interface == DISK_VIRTIO ? keep(vm, virtio_blk_new(&config), free_blk) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static void free_scsi(void *device) { virtio_scsi_free(device); }

static int new_virtio_scsi(struct vm *vm)
{
	struct virtio_scsi_config config = {
		.pci = vm->pc->pci, .devfn = -1, .loop = vm->loop, .queues = vm->vcpu_count};

	_Static_assert(VIRTIO_SCSI_TARGETS >= DISKS_MAX, "a target for each disk");
	for (unsigned i = 0; i < vm->backends.disk_count; i++) {
		const struct disk_config *disk = &vm->config.backends.disk[i];

		if (disk->interface != DISK_SCSI)
			continue;
		config.target[config.targets].block = vm->backends.disk[i];
		config.target[config.targets].cdrom = disk->cdrom;
		config.target[config.targets++].serial = disk->serial;
	}
	return config.targets ? keep(vm, virtio_scsi_new(&config), free_scsi) : 0;
}

static void free_ide(void *device) { ide_free(device); }

/* Disks from the first place on, CD-ROM drives from the second channel on, as PCs had them. */
static int new_ide(struct vm *vm)
{
	static const uint8_t places[2][4] = {{0, 1, 2, 3}, {2, 3, 0, 1}};
	struct ide_config config = {
		.bus = vm->pc->pci,
		.devfn = PCI_DEVFN(PIIX_SLOT, 1),
		.pio = &vm->pio,
		.irq = {pc_gsi_line(vm->pc, 14), pc_gsi_line(vm->pc, 15)},
	};
	unsigned count = 0;

	if (vm->config.machine != MACHINE_PC)
		return 0;
	for (unsigned cdrom = 0; cdrom <= 1; cdrom++)
		for (unsigned i = 0; i < vm->backends.disk_count; i++) {
			const struct disk_config *disk = &vm->config.backends.disk[i];

			if (disk->interface != DISK_IDE || disk->cdrom != cdrom)
				continue;
			if (count++ == IDE_CHANNELS * IDE_DRIVES)
				return -ENOSPC;
			struct ide_drive_config *d = NULL;
			for (unsigned p = 0; !d || d->block; p++)
				d = &config.drive[places[cdrom][p] / IDE_DRIVES][places[cdrom][p] % IDE_DRIVES];
			*d = (struct ide_drive_config){vm->backends.disk[i], cdrom, disk->serial};
		}
	return count ? keep(vm, ide_new(&config), free_ide) : 0;
}

static void free_ahci(void *device) { ahci_free(device); }

/* A q35 has it in its chip set, and no IDE: if=ide is SATA there. */
static int new_ahci(struct vm *vm)
{
	bool q35 = vm->config.machine == MACHINE_Q35;
	struct ahci_config config = {.bus = vm->pc->pci, .devfn = q35 ? (int)PCI_DEVFN(ICH9_SLOT, 2) : -1};
	unsigned count = 0;

	for (unsigned i = 0; i < vm->backends.disk_count; i++) {
		const struct disk_config *disk = &vm->config.backends.disk[i];

		if (disk->interface != DISK_SATA && !(q35 && disk->interface == DISK_IDE))
			continue;
		if (count == AHCI_PORTS)
			return -ENOSPC;
		config.drive[count++] = (struct ahci_drive_config){vm->backends.disk[i], disk->cdrom, disk->serial};
	}
	return count ? keep(vm, ahci_new(&config), free_ahci) : 0;
}

static void free_rng(void *device) { virtio_rng_free(device); }

static int new_rng(struct vm *vm)
{
	return vm->config.devices.rng ? keep(vm, virtio_rng_new(vm->pc->pci, vm->loop), free_rng) : 0;
}

#define NET_ROM(card) "/usr/lib/ipxe/qemu/efi-" card ".rom"

static void free_e1000(void *device) { e1000_free(device); }
static void free_virtio_net(void *device) { virtio_net_free(device); }

/* iPXE, of Debian's ipxe-qemu: only firmware runs it. */
static const char *net_rom(const struct vm *vm, const char *path)
{
	return !vm->config.kernel && sandbox_can_open(path) ? path : NULL;
}

static int new_net(struct vm *vm, struct net *net)
{
	struct pci_bus *pci = vm->pc->pci;
	const struct virtio_net_config virtio = {
		.pci = pci, .devfn = -1, .loop = vm->loop, .net = net, .rom = net_rom(vm, NET_ROM("virtio")),
		.pairs = net_configuration(net)->queues};
	const struct e1000_config e1000 = {.pci = pci, .devfn = -1, .loop = vm->loop, .timers = vm->timers, .net = net,
					   .rom = net_rom(vm, NET_ROM("e1000"))};

	if (net_configuration(net)->model == NET_MODEL_E1000)
		return keep(vm, e1000_new(&e1000), free_e1000);
	return keep(vm, virtio_net_new(&virtio), free_virtio_net);
}

static int new_nets(struct vm *vm)
{
	int r = 0;

	for (unsigned i = 0; i < vm->config.backends.nets && r == 0; i++)
		r = new_net(vm, vm->backends.net[i]);
	return r;
}

static void free_console(void *device) { virtio_console_free(device); }

static int new_console(struct vm *vm)
{
	const struct backends_config *config = &vm->config.backends;
	struct virtio_console_port port[VIRTIO_CONSOLE_PORTS];

	for (unsigned i = 0; i < config->consoles; i++)
		port[i] = (struct virtio_console_port){.chardev = vm->backends.console[i], .name = config->console[i].name};
	if (!config->consoles)
		return 0;
	return keep(vm, virtio_console_new(vm->pc->pci, vm->loop, port, config->consoles), free_console);
}

static void free_p9(void *device) { virtio_p9_free(device); }

static int new_shares(struct vm *vm)
{
	const struct backends_config *config = &vm->config.backends;

	for (unsigned i = 0; i < config->shares; i++) {
		struct virtio_p9 *d = virtio_p9_new(vm->pc->pci, vm->loop, vm->backends.share[i], config->share[i].tag);
		int r = keep(vm, d, free_p9);

		if (r < 0)
			return r;
	}
	return 0;
}

static void free_vsock(void *device) { virtio_vsock_free(device); }

static int new_vsock(struct vm *vm)
{
	const struct backends_config *config = &vm->config.backends;

	if (!config->vsock)
		return 0;
	return keep(vm, virtio_vsock_new(vm->pc->pci, vm->loop, config->vsock_cid, config->vsock, vm->backends.vsock),
		    free_vsock);
}

static void free_balloon(void *device) { virtio_balloon_free(device); }

static int new_balloon(struct vm *vm)
{
	const struct devices_config *config = &vm->config.devices;

	if (!config->balloon)
		return 0;
	vm->devices.balloon = virtio_balloon_new(vm->pc->pci, vm->loop, &vm->memory, config->balloon_target);
	return keep(vm, vm->devices.balloon, free_balloon);
}

int devices_set_balloon(struct vm *vm, uint64_t target)
{
	vm->config.devices.balloon_target = target;
	if (!vm->devices.balloon)
		return -ENODEV;
	virtio_balloon_set_target(vm->devices.balloon, target);
	return 0;
}

int devices_new(struct vm *vm)
{
	/* In the order of their slots. */
	static int (*const make[])(struct vm *vm) = {
		new_vga,
		new_virtio_disks,
		new_virtio_scsi,
		new_ide,
		new_ahci,
		new_nets,
		new_console,
		new_shares,
		new_vsock,
		new_rng,
		new_balloon,
		new_inputs,
	};

	for (unsigned i = 0; i < sizeof make / sizeof make[0]; i++) {
		int r = make[i](vm);

		if (r < 0)
			return r;
	}
	return 0;
}

void devices_free(struct vm *vm)
{
	struct devices *d = &vm->devices;

	while (d->count) {
		d->count--;
		d->list[d->count].free(d->list[d->count].device);
	}
	*d = (struct devices){0};
}
