package segment

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// Suffix ends the name of a segment.
const Suffix = ".seg"

// Name is where the segment with that number is, below the audit directory.
func Name(log string, number uint64) string {
	return path.Join(log, fmt.Sprintf("%010d", number)+Suffix)
}

// Number reads a file name of a log's folder; false for files that are no segments.
func Number(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, Suffix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0
}
