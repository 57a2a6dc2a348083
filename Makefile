# Ringside. `make run` and `make check` do everything on a fresh Debian 12; see README.md.
#   make            build/ringside            make DEBUG=1   -O0 -g
#   make SAN=1      AddressSanitizer + UBSan  make CC=clang  with clang
#   make TSAN=1     ThreadSanitizer, for engines bt and interp: TSAN_OPTIONS=suppressions=tests/tsan.supp
#   make run-debian boot Debian 12 from a disk
#   make run        boot Debian's kernel to a shell, here      make V=1   show the commands
#   make check      all tests; ends with "N passed, N failed"  make fuzz  fuzz until stopped
#   make fuzz-devices  libFuzzer on every device (clang)
#   make bench      bench/results.md                           make install PREFIX=/usr/local
#   make guests     fetch the kernels that are booted          make deps  install Debian packages

CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
PREFIX ?= /usr/local

VARIANT :=
ifdef DEBUG
VARIANT := $(VARIANT)-debug
endif
ifdef SAN
VARIANT := $(VARIANT)-san
endif
ifdef TSAN
VARIANT := $(VARIANT)-tsan
endif
ifdef LIBFUZZER
VARIANT := $(VARIANT)-fuzz
endif
ifneq ($(CC),gcc)
VARIANT := $(VARIANT)-$(notdir $(CC))
endif
B := build$(VARIANT)

CFLAGS_ALL := -std=gnu17 -Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes -Wno-missing-field-initializers \
	-Isrc -pthread -fno-strict-aliasing -D_GNU_SOURCE -MMD -MP -g
CFLAGS_ALL += $(if $(DEBUG),-O0,-O2)
# SANITIZERS: clang has no macro for them. Their run-time libraries use the vector registers.
SANITIZED := -DSANITIZERS -DFPU_LEAVE_AT_ONCE -fno-omit-frame-pointer
ifdef SAN
CFLAGS_ALL += $(SANITIZED) -fsanitize=address,undefined -fno-sanitize-recover=undefined
LDFLAGS_ALL += -fsanitize=address,undefined
endif
ifdef TSAN
CFLAGS_ALL += $(SANITIZED) -DTSAN
LDFLAGS_ALL += -fsanitize=thread
SEEN := -fsanitize=thread -Wno-tsan
endif
ifdef LIBFUZZER
CFLAGS_ALL += -DLIBFUZZER $(SANITIZED) -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
LDFLAGS_ALL += -fsanitize=fuzzer,address,undefined
endif
LDFLAGS_ALL += -pthread -Wl,--export-dynamic-symbol=webSocketsCheck # ui/vnc.c

# Debian's libraries; packages.txt has their packages.
LIBS := -ljson-c -luring -lz -lzstd -lseccomp
# libslirp, libpng, libvncserver and libnbd are loaded when they are needed (util/library.c).

SRC := $(wildcard src/*.c src/*/*.c src/*/*/*.c)
ASM := $(wildcard src/*/*/*.S)
OBJ := $(SRC:%.c=$(B)/%.o) $(ASM:%.S=$(B)/%.o)
LIB_OBJ := $(filter-out $(B)/src/main.o,$(OBJ))

# Guest vector state may be live in the host's registers while this code runs.
GENERAL_REGS := $(B)/src/cpu/% $(B)/src/engine/% $(B)/src/mem/% $(B)/src/machine/vcpu_env.o \
	$(B)/src/util/pages.o

# ThreadSanitizer's run-time library would destroy it: what runs while it is live is not to be seen. What the
# interpreter does itself touches its own vCPU and guest RAM only: neither, so that Linux boots in minutes.
UNSEEN := $(B)/src/cpu/fpu.o $(patsubst %,$(B)/src/cpu/%.o,decode insn insn_table) $(B)/src/engine/interp/% \
	$(patsubst %,$(B)/src/engine/bt/%.o,seen signal)

SAY = $(if $(V),,@echo '  $(1)	$(2)';)

all: $(B)/ringside

$(B)/ringside: $(OBJ)
	$(call SAY,LINK,$@)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)

# Everything but main, for tests.
$(B)/libringside.a: $(LIB_OBJ)
	$(call SAY,AR,$@)rm -f $@ && ar rcs $@ $^

$(B)/%.o: %.c
	@mkdir -p $(dir $@)
	$(call SAY,CC,$<)$(CC) $(CFLAGS_ALL) $(CFLAGS) $(if $(filter $(GENERAL_REGS),$@),-mgeneral-regs-only) \
		$(if $(filter $(UNSEEN),$@),,$(SEEN)) -c -o $@ $<

$(B)/%.o: %.S
	@mkdir -p $(dir $@)
	$(call SAY,AS,$<)$(CC) $(CFLAGS_ALL) -c -o $@ $<

# tests/unit/NAME.c -> build/tests/unit/NAME; a line "// LIBS: -lfoo" in it adds libraries.
UNIT_SRC := $(wildcard tests/unit/*.c tests/fuzz/*.c)
UNIT := $(UNIT_SRC:%.c=$(B)/%)
$(UNIT): $(B)/%: %.c $(B)/libringside.a
	@mkdir -p $(dir $@)
	$(call SAY,CC,$<)$(CC) $(CFLAGS_ALL) $(CFLAGS) $(LDFLAGS_ALL) -o $@ $< $(B)/libringside.a $(LIBS) \
		$$(sed -n 's,^// LIBS: ,,p' $<)

unit: $(UNIT)

# ---- packages and guests ----

GUESTS := .cache/guests

# packages.txt has them; apt-get is asked only when one is missing.
deps:
	tools/install-packages run debian test

deps-run:
	tools/install-packages run

deps-fuzz:
	tools/install-packages run fuzz

deps-bench:
	tools/install-packages run debian bench

# Kernels and busybox of the Debian archives, once; an initramfs for each.
guest = $(GUESTS)/$(1)/vmlinuz $(GUESTS)/$(1)/initrd.gz
GUEST_NAMES := cloud cloud-6.12 686
# Guests that are no Linux.
SYSTEM_NAMES := xen mach u-boot

$(GUESTS)/%/version:
	tools/fetch-guests $(GUESTS) $*

# Its KVM, for tests/kvm.
$(GUESTS)/cloud/kvm-modules:
	tools/fetch-guests $(GUESTS) cloud

$(GUESTS)/%/vmlinuz: $(GUESTS)/%/version ;

$(GUESTS)/%/initrd.gz: $(GUESTS)/%/version tools/make-initramfs tools/guest-init
	tools/make-initramfs $(GUESTS)/$*/busybox $@

# Debian 12 with systemd on a disk, made of packages: a bootable image, its kernel and initrd, a key for ssh.
DEBIAN := $(GUESTS)/debian

deps-debian:
	tools/install-packages run debian

$(DEBIAN)/disk.img: tools/make-debian-image
	tools/make-debian-image $(DEBIAN)

# Its 32-bit userland, as an initramfs.
DEBIAN_I386 := $(GUESTS)/debian-i386

$(DEBIAN_I386)/initrd: tools/make-debian-initrd
	tools/make-debian-initrd $@

guests: $(foreach g,$(GUEST_NAMES),$(call guest,$(g))) $(SYSTEM_NAMES:%=$(GUESTS)/%/version) $(GUESTS)/cloud/kvm-modules

# ---- what people ask for ----

# RUN adds options: make run RUN="--engine interp --stats"
run: deps-run
	$(MAKE) $(B)/ringside $(call guest,cloud)
	$(B)/ringside run --kernel $(GUESTS)/cloud/vmlinuz --initrd $(GUESTS)/cloud/initrd.gz \
		--append "console=ttyS0 loglevel=3" $(RUN)

# Debian by firmware and GRUB from the disk, with a network; the disk keeps what is written to it.
run-debian: deps-debian
	$(MAKE) $(B)/ringside $(DEBIAN)/disk.img
	$(B)/ringside run --disk $(DEBIAN)/disk.img --memory 1G --cpus 2 --net user,hostfwd=tcp:127.0.0.1:2222-:22 $(RUN)

# CHECK chooses suites: make check CHECK="unit cli"
check: deps
	$(MAKE) all unit guests $(if $(filter pc,$(or $(CHECK),pc)),$(DEBIAN)/disk.img $(DEBIAN_I386)/initrd)
	tests/run $(B) $(CHECK)

# Until stopped: seeds that no run before had.
fuzz: $(B)/ringside $(UNIT)
	tests/fuzz-forever $(B)

# libFuzzer on every device for FUZZ_TIME seconds each; what it learned stays in .cache/fuzz. FUZZ_DEVICES chooses.
FUZZ_TIME := 60
FUZZ_DEVICES := $(patsubst tests/fuzz/%.c,%,$(wildcard $(patsubst %,tests/fuzz/%.c,dev_* net_* vnc_* qcow2)))
fuzz-devices: fuzzers
	tests/fuzz/devices --seconds $(FUZZ_TIME) build-fuzz-clang $(FUZZ_DEVICES)

fuzzers: deps-fuzz
	$(MAKE) CC=clang LIBFUZZER=1 CFLAGS=-O1 $(FUZZ_DEVICES:%=build-fuzz-clang/tests/fuzz/%)

# The same work on the bare host, on QEMU's TCG and on Ringside: prints and writes bench/results.md.
bench: deps-bench $(B)/ringside $(call guest,cloud)
	bench/run --ringside $(B)/ringside $(BENCH)
	$(if $(BENCH),,$(MAKE) bench-pc)

# Disks, networks and a whole boot, on TCG and on Ringside: prints and writes bench/results-pc.md.
bench-pc: deps-bench $(B)/ringside $(DEBIAN)/disk.img
	bench/pc --ringside $(B)/ringside

install: $(B)/ringside
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/doc/ringside $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 $(B)/ringside $(DESTDIR)$(PREFIX)/bin/ringside
	install -m 644 LICENSE $(wildcard README.md docs/*.md) $(DESTDIR)$(PREFIX)/share/doc/ringside
	install -m 644 docs/ringside.1 $(DESTDIR)$(PREFIX)/share/man/man1/ringside.1

clean:
	rm -rf build build-*

.PHONY: all unit deps deps-run deps-bench deps-debian deps-fuzz guests run run-debian check fuzz fuzz-devices fuzzers \
	bench bench-pc install clean
.SECONDARY:
-include $(OBJ:.o=.d) $(UNIT:=.d)
