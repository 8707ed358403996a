package audit

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
)

// tail says how far a log is acknowledged: the one thing that a reader beside the gateway cannot see in the segments,
// where a batch may be complete that a power cut would still take back. It is overwritten with each commit and never
// synced, since nobody needs it after a restart.
type tail struct {
	segment uint64
	end     int64
	nextSeq uint64
}

const (
	tailLen = 28
	// tailReads is how often a reader tries to get the tail in one piece. After a power cut, until a gateway has
	// started, it may be in no piece at all.
	tailReads = 10
)

// castagnoli is CRC-32C, for which processors have an instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func tailName(log string) string { return path.Join(log, "tail") }

func (t tail) publish(f File) error {
	var b [tailLen]byte
	binary.LittleEndian.PutUint64(b[4:], t.segment)
	binary.LittleEndian.PutUint64(b[12:], uint64(t.end))
	binary.LittleEndian.PutUint64(b[20:], t.nextSeq)
	binary.LittleEndian.PutUint32(b[:], crc32.Checksum(b[4:], castagnoli))
	_, err := f.WriteAt(b[:], 0)
	return err
}

// readTail reads the tail; the zero tail where there is none.
func readTail(fsys FileSystem, log string) (tail, error) {
	f, err := fsys.OpenFile(tailName(log), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return tail{}, nil
	}
	if err != nil {
		return tail{}, err
	}
	defer f.Close()
	var b [tailLen]byte
	for range tailReads {
		if _, err := f.ReadAt(b[:], 0); err != nil && !errors.Is(err, io.EOF) {
			return tail{}, err
		}
		if binary.LittleEndian.Uint32(b[:]) == crc32.Checksum(b[4:], castagnoli) {
			return tail{
				segment: binary.LittleEndian.Uint64(b[4:]),
				end:     int64(binary.LittleEndian.Uint64(b[12:])),
				nextSeq: binary.LittleEndian.Uint64(b[20:]),
			}, nil
		}
	}
	return tail{}, nil
}
