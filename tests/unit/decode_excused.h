/*
 * Where Ringside's decoder and Zydis 4.0 may differ, one reason each. Included by decode_compare.h.
 */
static bool decode_excused(const char *what, enum decode_result result, const struct insn *insn,
			   const struct zydis_one *z)
{
	if (result != DECODE_OK && z->ok) {
		switch ((unsigned)z->insn.meta.isa_set) {
		/* Extensions that Ringside does not have: AMD's retired XOP family, Larrabee's and Knights'
		 * vectors, VIA's Padlock, and what came after Zydis's generation of mainstream CPUs. */
		case ZYDIS_ISA_SET_AMD3DNOW:
		case ZYDIS_ISA_SET_XOP:
		case ZYDIS_ISA_SET_FMA4:
		case ZYDIS_ISA_SET_TBM:
		case ZYDIS_ISA_SET_LWP:
		case ZYDIS_ISA_SET_KNCE:
		case ZYDIS_ISA_SET_KNCJKBR:
		case ZYDIS_ISA_SET_KNCSTREAM:
		case ZYDIS_ISA_SET_KNCV:
		case ZYDIS_ISA_SET_KNC_MISC:
		case ZYDIS_ISA_SET_KNC_PF_HINT:
		case ZYDIS_ISA_SET_PADLOCK_ACE:
		case ZYDIS_ISA_SET_PADLOCK_PHE:
		case ZYDIS_ISA_SET_PADLOCK_PMM:
		case ZYDIS_ISA_SET_PADLOCK_RNG:
		case ZYDIS_ISA_SET_AVX512ER_512:
		case ZYDIS_ISA_SET_AVX512ER_SCALAR:
		case ZYDIS_ISA_SET_AVX512PF_512:
		case ZYDIS_ISA_SET_AVX512_4FMAPS_512:
		case ZYDIS_ISA_SET_AVX512_4FMAPS_SCALAR:
		case ZYDIS_ISA_SET_AVX512_4VNNIW_512:
		case ZYDIS_ISA_SET_AVX512_FP16_128:
		case ZYDIS_ISA_SET_AVX512_FP16_128N:
		case ZYDIS_ISA_SET_AVX512_FP16_256:
		case ZYDIS_ISA_SET_AVX512_FP16_512:
		case ZYDIS_ISA_SET_AVX512_FP16_SCALAR:
		case ZYDIS_ISA_SET_AMX_BF16:
		case ZYDIS_ISA_SET_AMX_INT8:
		case ZYDIS_ISA_SET_AMX_TILE:
		case ZYDIS_ISA_SET_KEYLOCKER:
		case ZYDIS_ISA_SET_KEYLOCKER_WIDE:
		case ZYDIS_ISA_SET_TDX:
		case ZYDIS_ISA_SET_UINTR:
		case ZYDIS_ISA_SET_SNP:
		case ZYDIS_ISA_SET_AMD_INVLPGB:
		case ZYDIS_ISA_SET_CET:
			return true;
		}
	}
	/* In 32-bit modes W means nothing to these, and so does b to the register form with it; only Zydis looks. */
	if (result == DECODE_OK && !z->ok)
		return (insn->id == INSN_VCVTSI2SD || insn->id == INSN_VCVTUSI2SD) && insn->mode != 64 &&
		       insn->evex_b && (insn->rex & 8);
	if (result != DECODE_OK || !z->ok || insn->len != z->insn.length)
		return false;
	/* SIB with base 5 and mod 0 has no base whatever REX.B says (SDM 2A table 2-3); Zydis forgets it with 67. */
	if (!strcmp(what, "base"))
		return insn->mode == 64 && insn->addrsize == 4 && insn->sib_at && insn->modrm < 0x40 &&
		       (insn->sib & 7) == 5 && (insn->rex & 1) && insn->mem_base == REG_NONE;
	switch (insn->id) {
	case INSN_MOVSXD: /* with 66: SDM reads 16 bits of memory, Zydis 32 */
		return insn->opsize == 2 && !strcmp(what, "memory size");
	case INSN_WBNOINVD: /* Zydis does not know the name */
		return z->insn.mnemonic == ZYDIS_MNEMONIC_WBINVD;
	case INSN_FSTP: /* D9 D8+i, FSTP with no exception on an empty register, has no name of its own in the SDM */
		return z->insn.mnemonic == ZYDIS_MNEMONIC_FSTPNCE;
	case INSN_XCHG: /* F3 REX.B 90: Zydis says PAUSE; processors (seen on AMD EPYC) exchange */
		return insn->opcode == 0x90 && z->insn.mnemonic == ZYDIS_MNEMONIC_PAUSE;
	case INSN_LSL: /* writes when it sets ZF, like LAR; Zydis has it read the destination */
		return !strcmp(what, "access");
	case INSN_CLFLUSH: /* one byte is named, a line is meant */
	case INSN_CLFLUSHOPT:
	case INSN_CLWB:
		return !strcmp(what, "memory size");
	}
	return false;
}
