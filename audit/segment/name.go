package segment

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// Suffix ends the name of a segment, and SealedSuffix that of a sealed one.
const (
	Suffix       = ".seg"
	SealedSuffix = ".seg.zst"
)

// Name is where the segment with that number is, below the audit directory.
func Name(log string, number uint64) string {
	return path.Join(log, digitsOf(number)+Suffix)
}

// SealedName is where it is once it is sealed.
func SealedName(log string, number uint64) string {
	return path.Join(log, digitsOf(number)+SealedSuffix)
}

// Number reads a file name of a log's folder; false for files that are no segments.
func Number(name string) (number uint64, sealed, ok bool) {
	digits, sealed := strings.CutSuffix(name, SealedSuffix)
	if !sealed {
		if digits, ok = strings.CutSuffix(name, Suffix); !ok {
			return 0, false, false
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, sealed, err == nil && n > 0 && digits == digitsOf(n)
}

func digitsOf(number uint64) string { return fmt.Sprintf("%010d", number) }
