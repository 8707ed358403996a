package evidence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// A bundle is a zip (PKWARE APPNOTE 6.3.10) with one form only: files one after another from offset 0, sizes stated in
// front of each, one fixed time, no comments and no extra fields but zip64's where offsets need it, and nothing behind.
// So every byte of the container is determined by the files in it, and a reader can tell when one is not.

const (
	methodStore   = 0
	methodDeflate = 8

	localSize   = 30
	centralSize = 46
	endSize     = 22
	end64Size   = 56
	locatorSize = 20
	extra64Size = 12

	zipVersion   = 20             // 2.0: deflate
	zipVersion64 = 45             // 4.5: zip64
	madeByUnix   = 3 << 8         // so that the mode counts
	fileMode     = 0o100644 << 16 // a plain file
	zipDate      = 1<<5 | 1       // 1980-01-01, the first day there is; the time is 0

	// maxMember bounds one file, packed or not, so that its sizes take 32 bits.
	maxMember = 1 << 30
)

// member is one file in the zip.
type member struct {
	name         string
	method       uint16
	crc          uint32 // CRC-32 (IEEE) of the contents
	packed, size int64
	offset       int64 // of the local header; data in a zip of another form
	data         int64 // offset of the packed bytes
}

func (m *member) version() uint16 {
	if m.offset >= math.MaxUint32 {
		return zipVersion64
	}
	return zipVersion
}

// appendLocal appends the header in front of the file.
func (m *member) appendLocal(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, 0x04034b50)
	b = le.AppendUint16(b, zipVersion)
	b = m.appendCommon(b)
	b = le.AppendUint16(b, 0)
	return append(b, m.name...)
}

// appendCommon appends what both headers say, from the flags to the length of the name.
func (m *member) appendCommon(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint16(b, 0) // flags
	b = le.AppendUint16(b, m.method)
	b = le.AppendUint16(b, 0) // time
	b = le.AppendUint16(b, zipDate)
	b = le.AppendUint32(b, m.crc)
	b = le.AppendUint32(b, uint32(m.packed))
	b = le.AppendUint32(b, uint32(m.size))
	return le.AppendUint16(b, uint16(len(m.name)))
}

// appendCentral appends the file's entry in the directory.
func (m *member) appendCentral(b []byte) []byte {
	le := binary.LittleEndian
	big := m.offset >= math.MaxUint32
	b = le.AppendUint32(b, 0x02014b50)
	b = le.AppendUint16(b, madeByUnix|m.version())
	b = le.AppendUint16(b, m.version())
	b = m.appendCommon(b)
	extra := uint16(0)
	if big {
		extra = extra64Size
	}
	b = le.AppendUint16(b, extra)
	b = le.AppendUint16(b, 0) // comment
	b = le.AppendUint16(b, 0) // disk
	b = le.AppendUint16(b, 0) // internal attributes
	b = le.AppendUint32(b, fileMode)
	b = le.AppendUint32(b, uint32(min(m.offset, math.MaxUint32)))
	b = append(b, m.name...)
	if big {
		b = le.AppendUint16(b, 1)
		b = le.AppendUint16(b, extra64Size-4)
		b = le.AppendUint64(b, uint64(m.offset))
	}
	return b
}

// appendEnd appends what follows the directory.
func appendEnd(b []byte, count int, size, offset int64) []byte {
	le := binary.LittleEndian
	if count >= math.MaxUint16 || size >= math.MaxUint32 || offset >= math.MaxUint32 {
		b = le.AppendUint32(b, 0x06064b50)
		b = le.AppendUint64(b, end64Size-12)
		b = le.AppendUint16(b, madeByUnix|zipVersion64)
		b = le.AppendUint16(b, zipVersion64)
		b = le.AppendUint64(b, 0) // this disk, disk of the directory
		b = le.AppendUint64(b, uint64(count))
		b = le.AppendUint64(b, uint64(count))
		b = le.AppendUint64(b, uint64(size))
		b = le.AppendUint64(b, uint64(offset))
		b = le.AppendUint32(b, 0x07064b50)
		b = le.AppendUint32(b, 0)
		b = le.AppendUint64(b, uint64(offset+size))
		b = le.AppendUint32(b, 1)
	}
	b = le.AppendUint32(b, 0x06054b50)
	b = le.AppendUint32(b, 0) // this disk, disk of the directory
	b = le.AppendUint16(b, uint16(min(count, math.MaxUint16)))
	b = le.AppendUint16(b, uint16(min(count, math.MaxUint16)))
	b = le.AppendUint32(b, uint32(min(size, math.MaxUint32)))
	b = le.AppendUint32(b, uint32(min(offset, math.MaxUint32)))
	return le.AppendUint16(b, 0)
}

// zipWriter writes files one after another.
type zipWriter struct {
	w       io.Writer
	offset  int64
	members []member
	header  []byte
}

// add writes one file whose packed bytes are at hand.
func (z *zipWriter) add(m member, packed []byte) error {
	if len(z.members) == maxFiles {
		return fmt.Errorf("more than %d files in a bundle: choose a shorter period", maxFiles)
	}
	m.offset = z.offset
	m.packed = int64(len(packed))
	z.members = append(z.members, m)
	z.header = m.appendLocal(z.header[:0])
	return errors.Join(z.write(z.header), z.write(packed))
}

// close writes the directory.
func (z *zipWriter) close() error {
	var b []byte
	for i := range z.members {
		b = z.members[i].appendCentral(b)
	}
	return z.write(appendEnd(b, len(z.members), int64(len(b)), z.offset))
}

func (z *zipWriter) write(b []byte) error {
	n, err := z.w.Write(b)
	z.offset += int64(n)
	return err
}
