/*
 * Every instruction of kernel images through Ringside's decoder and through Zydis: a linear sweep over
 * the executable sections, both must say the same. Arguments: ELF kernels or bzImages (unpacked by
 * tools/extract-vmlinux). Without any, those that `make run` has fetched; none there: skipped.
 */
// LIBS: -lZydis
#include "decode_compare.h"

#include <elf.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct totals {
	unsigned long insns, bytes_skipped, excused, differences;
};

static void sweep(const uint8_t *code, uint64_t size, unsigned mode, struct totals *totals)
{
	for (uint64_t at = 0; at < size;) {
		uint8_t bytes[16] = { 0 };
		size_t avail = size - at < 15 ? size - at : 15;
		struct insn insn;
		struct zydis_one z;
		memcpy(bytes, code + at, avail);
		enum decode_result result = insn_decode(&insn, bytes, avail, mode);
		zydis_decode(&z, bytes, avail, mode);
		const char *what = different(result, &insn, &z);
		if (what && decode_excused(what, result, &insn, &z)) {
			totals->excused++;
		} else if (what) {
			if (totals->differences++ < 20)
				print_difference(what, bytes, avail, mode, result, &insn, &z);
		}
		totals->insns += z.ok;
		totals->bytes_skipped += !z.ok;
		at += z.ok ? z.insn.length : 1;
	}
}

/* Executable sections of an ELF file of either class. False: it is no ELF file, or a broken one. */
static bool sweep_elf(const uint8_t *file, uint64_t size, struct totals *totals)
{
	Elf64_Ehdr e64;
	Elf32_Ehdr e32;
	if (size < sizeof(e64) || memcmp(file, ELFMAG, SELFMAG))
		return false;
	memcpy(&e64, file, sizeof(e64));
	memcpy(&e32, file, sizeof(e32));
	bool is64 = file[EI_CLASS] == ELFCLASS64;
	uint64_t table = is64 ? e64.e_shoff : e32.e_shoff;
	unsigned count = is64 ? e64.e_shnum : e32.e_shnum, entry = is64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
	if (table > size || (size - table) / entry < count)
		return false;
	for (unsigned i = 0; i < count; i++) {
		Elf64_Shdr s64;
		Elf32_Shdr s32;
		memcpy(&s64, file + table + (uint64_t)i * entry, is64 ? sizeof(s64) : 0);
		memcpy(&s32, file + table + (uint64_t)i * entry, is64 ? 0 : sizeof(s32));
		uint64_t flags = is64 ? s64.sh_flags : s32.sh_flags, offset = is64 ? s64.sh_offset : s32.sh_offset,
			 length = is64 ? s64.sh_size : s32.sh_size, type = is64 ? s64.sh_type : s32.sh_type;
		if (!(flags & SHF_EXECINSTR) || type != SHT_PROGBITS)
			continue;
		if (offset > size || size - offset < length)
			return false;
		sweep(file + offset, length, is64 ? 64 : 32, totals);
	}
	return true;
}

static bool sweep_file(const char *path, struct totals *totals)
{
	struct stat st;
	bool ok = false;
	int fd = open(path, O_RDONLY);
	if (fd >= 0 && !fstat(fd, &st) && st.st_size > 0) {
		void *file = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (file != MAP_FAILED) {
			ok = sweep_elf(file, st.st_size, totals);
			munmap(file, st.st_size);
		}
	}
	if (fd >= 0)
		close(fd);
	return ok;
}

/* A bzImage: unpacked into a file of our own first. */
static bool sweep_bzimage(const char *path, struct totals *totals)
{
	char unpacked[] = "/tmp/ringside-vmlinux-XXXXXX";
	int fd = mkstemp(unpacked), status = 0;
	if (fd < 0)
		return false;
	close(fd);
	pid_t pid = fork();
	if (pid == 0) {
		execl("tools/extract-vmlinux", "extract-vmlinux", path, unpacked, NULL);
		_exit(127);
	}
	bool ok = pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
		  sweep_file(unpacked, totals);
	unlink(unpacked);
	return ok;
}

int main(int argc, char **argv)
{
	glob_t found = { 0 };
	unsigned passed = 0, failed = 0;
	if (argc < 2) {
		glob(".cache/guests/*/vmlinuz", 0, NULL, &found);
		argv = found.gl_pathv;
		argc = found.gl_pathc;
	} else {
		argv++;
		argc--;
	}
	zydis_setup();
	for (int i = 0; i < argc; i++) {
		struct totals totals = { 0 };
		bool swept = sweep_file(argv[i], &totals) || sweep_bzimage(argv[i], &totals);
		bool ok = swept && totals.insns > 0 && totals.differences == 0;
		printf("%s %d - %s: %s%lu instructions, %lu bytes that are none, %lu excused, %lu different\n",
		       ok ? "ok" : "not ok", i + 1, argv[i], swept ? "" : "no kernel image; ", totals.insns,
		       totals.bytes_skipped, totals.excused, totals.differences);
		passed += ok;
		failed += !ok;
	}
	if (argc == 0)
		printf("ok 1 # SKIP no kernel image in .cache/guests: give one as argument\n");
	printf("%u passed, %u failed, %d skipped\n", passed, failed, argc == 0);
	globfree(&found);
	return failed ? 1 : 0;
}
