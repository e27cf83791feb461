#include "textflag.h"

// func prefetchRead(run *Iovec, n, off int)
TEXT ·prefetchRead(SB), NOSPLIT, $0-24
	MOVQ run+0(FP), SI
	MOVQ n+8(FP), CX
	MOVQ off+16(FP), DX
	TESTQ CX, CX
	JZ   done

next:
	MOVQ       (SI), DI
	PREFETCHT0 (DI)(DX*1)
	ADDQ       $16, SI
	DECQ       CX
	JNZ        next

done:
	RET

// func prefetchWrite(run *Iovec, n int)
TEXT ·prefetchWrite(SB), NOSPLIT, $0-16
	MOVQ run+0(FP), SI
	MOVQ n+8(FP), CX
	TESTQ CX, CX
	JZ   done

next:
	MOVQ (SI), DI
	BYTE $0x0f; BYTE $0x0d; BYTE $0x0f // PREFETCHW (DI), which the assembler does not know
	ADDQ $16, SI
	DECQ CX
	JNZ  next

done:
	RET
