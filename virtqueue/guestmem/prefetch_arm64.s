#include "textflag.h"

// func prefetchRead(run *Iovec, n, off int)
TEXT ·prefetchRead(SB), NOSPLIT, $0-24
	MOVD run+0(FP), R0
	MOVD n+8(FP), R1
	MOVD off+16(FP), R3
	CBZ  R1, done

next:
	MOVD.P 16(R0), R2
	ADD    R3, R2
	PRFM   (R2), PLDL1KEEP
	SUBS   $1, R1
	BNE    next

done:
	RET

// func prefetchWrite(run *Iovec, n int)
TEXT ·prefetchWrite(SB), NOSPLIT, $0-16
	MOVD run+0(FP), R0
	MOVD n+8(FP), R1
	CBZ  R1, done

next:
	MOVD.P 16(R0), R2
	PRFM   (R2), PSTL1KEEP
	SUBS   $1, R1
	BNE    next

done:
	RET
