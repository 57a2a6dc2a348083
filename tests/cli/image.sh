# Sourced by the command line tests: makes tiny Multiboot images, flat, loaded at 1 MiB.

# hex FILE BYTE...: appends bytes.
hex() {
	local file=$1
	shift
	printf "$(printf '\\x%s' "$@")" >>"$file"
}

# multiboot_header FILE FLAGS LOAD LOAD_END BSS_END ENTRY: starts the file with a header (32 bytes).
multiboot_header() {
	local file=$1 flags=$2 word magic=0x1badb002
	: >"$file"
	for word in $magic "$flags" $(((-magic - flags) & 0xffffffff)) "$3" "$3" "$4" "$5" "$6"; do
		hex "$file" $(printf '%02x %02x %02x %02x' $((word & 255)) $((word >> 8 & 255)) $((word >> 16 & 255)) \
			$((word >> 24 & 255)))
	done
}

# guest FILE BYTE...: an image of 32-bit code, entered in flat protected mode without an IDT.
guest() {
	local file=$1
	shift
	multiboot_header "$file" 0x10000 0x100000 0 0 0x100020
	hex "$file" "$@"
}
