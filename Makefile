# Ringside. `make run` and `make check` do everything on a fresh Debian 12; see README.md.
#   make            build/ringside            make DEBUG=1   -O0 -g
#   make SAN=1      AddressSanitizer + UBSan  make CC=clang  with clang

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
ifneq ($(CC),gcc)
VARIANT := $(VARIANT)-$(notdir $(CC))
endif
B := build$(VARIANT)

CFLAGS_ALL := -std=gnu17 -Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes -Wno-missing-field-initializers \
	-Isrc -pthread -fno-strict-aliasing -D_GNU_SOURCE -MMD -MP -g
CFLAGS_ALL += $(if $(DEBUG),-O0,-O2)
ifdef SAN
CFLAGS_ALL += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDFLAGS_ALL += -fsanitize=address,undefined
endif
LDFLAGS_ALL += -pthread

SRC := $(wildcard src/*.c src/*/*.c src/*/*/*.c)
ASM := $(wildcard src/*/*/*.S)
OBJ := $(SRC:%.c=$(B)/%.o) $(ASM:%.S=$(B)/%.o)
LIB_OBJ := $(filter-out $(B)/src/main.o,$(OBJ))

# Guest vector state may be live in the host's registers while this code runs.
GENERAL_REGS := $(B)/src/cpu/% $(B)/src/engine/% $(B)/src/mem/%

all: $(B)/ringside

$(B)/ringside: $(OBJ)
	$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^

# Everything but main, for tests.
$(B)/libringside.a: $(LIB_OBJ)
	rm -f $@ && ar rcs $@ $^

$(B)/%.o: %.c
	@mkdir -p $(dir $@)
	$(CC) $(CFLAGS_ALL) $(CFLAGS) $(if $(filter $(GENERAL_REGS),$@),-mgeneral-regs-only) -c -o $@ $<

$(B)/%.o: %.S
	@mkdir -p $(dir $@)
	$(CC) $(CFLAGS_ALL) -c -o $@ $<

# tests/unit/NAME.c -> build/tests/unit/NAME; a line "// LIBS: -lfoo" in it adds libraries.
UNIT_SRC := $(wildcard tests/unit/*.c tests/fuzz/*.c)
UNIT := $(UNIT_SRC:%.c=$(B)/%)
$(UNIT): $(B)/%: %.c $(B)/libringside.a
	@mkdir -p $(dir $@)
	$(CC) $(CFLAGS_ALL) $(CFLAGS) $(LDFLAGS_ALL) -o $@ $< $(B)/libringside.a $$(sed -n 's,^// LIBS: ,,p' $<)

unit: $(UNIT)

clean:
	rm -rf build build-*

.PHONY: all unit clean
-include $(OBJ:.o=.d) $(UNIT:=.d)
