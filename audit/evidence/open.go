package evidence

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

func open(f *os.File) (*Bundle, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is no file", ErrNotBundle)
	}
	b := &Bundle{file: f}
	members, err := readContainer(f, info.Size())
	if err != nil {
		b.repacked = err
		if members, err = readForeign(f, info.Size()); err != nil {
			return nil, err
		}
	}
	if b.members, err = byName(members); err != nil {
		return nil, err
	}
	return b, b.readManifest()
}

func byName(members []member) (map[string]member, error) {
	if len(members) > maxFiles {
		return nil, fmt.Errorf("%w: the zip has %d files, more than %d", ErrAltered, len(members), maxFiles)
	}
	named := make(map[string]member, len(members))
	for _, m := range members {
		if _, twice := named[m.name]; twice {
			return nil, fmt.Errorf("%w: the zip has %q twice", ErrAltered, m.name)
		}
		named[m.name] = m
	}
	return named, nil
}

// readManifest reads the manifest, after its note was compared with it.
func (b *Bundle) readManifest() error {
	m, ok := b.members[ManifestName]
	if !ok {
		if _, note := b.members[NoteName]; !note {
			return fmt.Errorf("%w: there is no %s", ErrNotBundle, ManifestName)
		}
		return fmt.Errorf("%w: there is no %s", ErrIncomplete, ManifestName)
	}
	var err error
	if b.text, err = b.unpack(&m, maxManifest); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrAltered, ManifestName, err)
	}
	if m, ok := b.members[NoteName]; ok {
		if b.note, err = b.unpack(&m, maxNote); err == nil {
			err = checkNote(b.note, b.text)
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrAltered, NoteName, err)
		}
	}
	if b.manifest, err = decodeManifest(b.text); err != nil {
		return err
	}
	b.listed = make(map[string]*File, len(b.manifest.Files))
	for i := range b.manifest.Files {
		b.listed[b.manifest.Files[i].Name] = &b.manifest.Files[i]
	}
	return nil
}

// readContainer reads the zip's directory and makes sure that not one byte around the files could be another.
func readContainer(r io.ReaderAt, size int64) ([]member, error) {
	directory, count, offset, err := readDirectory(r, size)
	if err != nil {
		return nil, err
	}
	members, err := parseDirectory(directory, count)
	if err != nil {
		return nil, err
	}
	next := int64(0)
	var header, want []byte
	for i := range members {
		m := &members[i]
		want = m.appendLocal(want[:0])
		header = append(header[:0], make([]byte, len(want))...)
		if m.offset != next || m.offset+int64(len(want)) > offset {
			return nil, fmt.Errorf("%q is not at offset %d", m.name, next)
		}
		if _, err := r.ReadAt(header, m.offset); err != nil {
			return nil, err
		}
		if !bytes.Equal(header, want) {
			return nil, fmt.Errorf("the header of %q at offset %d is another than its directory entry", m.name, m.offset)
		}
		m.data = m.offset + int64(len(want))
		next = m.data + m.packed
	}
	if next != offset {
		return nil, fmt.Errorf("the files end at offset %d, the directory begins at %d", next, offset)
	}
	return members, nil
}

// readDirectory returns the directory's bytes, without what follows it.
func readDirectory(r io.ReaderAt, size int64) (directory []byte, count int, offset int64, err error) {
	tail := make([]byte, min(size, endSize+locatorSize+end64Size))
	if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil {
		return nil, 0, 0, err
	}
	if len(tail) < endSize {
		return nil, 0, 0, errors.New("it is shorter than an empty zip")
	}
	le := binary.LittleEndian
	end := tail[len(tail)-endSize:]
	n, length, offset := uint64(le.Uint16(end[10:])), int64(le.Uint32(end[12:])), int64(le.Uint32(end[16:]))
	if n == math.MaxUint16 || offset == math.MaxUint32 {
		if len(tail) < endSize+locatorSize+end64Size {
			return nil, 0, 0, errors.New("it ends too early")
		}
		n, length, offset = le.Uint64(tail[32:]), int64(le.Uint64(tail[40:])), int64(le.Uint64(tail[48:]))
	}
	if n > maxFiles || length < 0 || length > maxDirectory || offset < 0 || offset > size {
		return nil, 0, 0, fmt.Errorf("a directory of %d files in %d bytes at offset %d", n, length, offset)
	}
	want := appendEnd(nil, int(n), length, offset)
	if offset+length+int64(len(want)) != size || !bytes.HasSuffix(tail, want) {
		return nil, 0, 0, errors.New("it does not end as it was written")
	}
	directory = make([]byte, length)
	_, err = r.ReadAt(directory, offset)
	return directory, int(n), offset, err
}

// parseDirectory reads the entries, of which every byte is determined by name, method, CRC, sizes and offset.
func parseDirectory(b []byte, count int) ([]member, error) {
	le := binary.LittleEndian
	members := make([]member, 0, count)
	var want []byte
	for at := 0; len(members) < count; {
		entry := b[at:]
		if len(entry) < centralSize {
			return nil, fmt.Errorf("the directory ends within entry %d", len(members))
		}
		m := member{method: le.Uint16(entry[10:]), crc: le.Uint32(entry[16:]), packed: int64(le.Uint32(entry[20:])),
			size: int64(le.Uint32(entry[24:])), offset: int64(le.Uint32(entry[42:]))}
		name := int(le.Uint16(entry[28:]))
		if length := centralSize + name + int(le.Uint16(entry[30:])); len(entry) < length {
			return nil, fmt.Errorf("the directory ends within entry %d", len(members))
		} else if entry = entry[:length]; length == centralSize+name+extra64Size {
			m.offset = int64(le.Uint64(entry[length-8:]))
		}
		m.name = string(entry[centralSize : centralSize+name])
		want = m.appendCentral(want[:0])
		if m.offset < 0 || m.packed > maxMember || m.size > maxMember || !bytes.Equal(entry, want) {
			return nil, fmt.Errorf("the directory's entry %d is not as it was written", len(members))
		}
		members = append(members, m)
		if at += len(entry); len(members) == count && at != len(b) {
			return nil, errors.New("the directory has more than its entries")
		}
	}
	return members, nil
}

// readForeign reads a zip that another program packed, or somebody altered, so that what is in it can still be compared
// with the manifest.
func readForeign(f io.ReaderAt, size int64) ([]member, error) {
	limited := &budget{r: f, left: 2 * maxDirectory}
	z, err := zip.NewReader(limited, size)
	if err != nil {
		return nil, noZip(f, size, err)
	}
	if len(z.File) > maxFiles {
		return nil, fmt.Errorf("%w: the zip has %d files, more than %d", ErrAltered, len(z.File), maxFiles)
	}
	members := make([]member, 0, len(z.File))
	for _, f := range z.File {
		limited.left = 1 << 20
		data, err := f.DataOffset()
		if err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrAltered, f.Name, err)
		}
		if f.CompressedSize64 > maxMember || f.UncompressedSize64 > maxMember || data+int64(f.CompressedSize64) > size {
			return nil, fmt.Errorf("%w: %q cannot have %d bytes, packed into %d", ErrAltered, f.Name, f.UncompressedSize64, f.CompressedSize64)
		}
		members = append(members, member{name: f.Name, method: f.Method, crc: f.CRC32, data: data,
			packed: int64(f.CompressedSize64), size: int64(f.UncompressedSize64)})
	}
	return members, nil
}

// noZip tells a bundle that was cut off from one that was altered and from other files: by going through the files from
// the front, where each states how long it is.
func noZip(r io.ReaderAt, size int64, cause error) error {
	le := binary.LittleEndian
	header := make([]byte, localSize)
	for at := int64(0); ; {
		n, err := r.ReadAt(header, at)
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case n < 4 && at == 0:
			return fmt.Errorf("%w: %w", ErrNotBundle, cause)
		case n < localSize:
			return fmt.Errorf("%w: it ends at offset %d", ErrIncomplete, size)
		case le.Uint32(header) == 0x02014b50:
			return directoryEnd(r, size, at, cause)
		case le.Uint32(header) != 0x04034b50 && at == 0:
			return fmt.Errorf("%w: %w", ErrNotBundle, cause)
		case le.Uint32(header) != 0x04034b50:
			return fmt.Errorf("%w: no file begins at offset %d", ErrAltered, at)
		}
		at += localSize + int64(le.Uint16(header[26:])) + int64(le.Uint16(header[28:])) + int64(le.Uint32(header[18:]))
		if at >= size {
			return fmt.Errorf("%w: it ends at offset %d, within a file", ErrIncomplete, size)
		}
	}
}

// directoryEnd looks for the end of a directory that begins at an offset.
func directoryEnd(r io.ReaderAt, size, at int64, cause error) error {
	le := binary.LittleEndian
	header := make([]byte, centralSize)
	for {
		n, err := r.ReadAt(header, at)
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case n >= 4 && le.Uint32(header) != 0x02014b50 && size-at >= endSize:
			return fmt.Errorf("%w: %w", ErrAltered, cause)
		case n < centralSize:
			return fmt.Errorf("%w: it ends at offset %d, within the directory", ErrIncomplete, size)
		}
		at += centralSize + int64(le.Uint16(header[28:])) + int64(le.Uint16(header[30:])) + int64(le.Uint16(header[32:]))
	}
}

// budget fails once more was read than anybody needs to.
type budget struct {
	r    io.ReaderAt
	left int64
}

func (b *budget) ReadAt(p []byte, off int64) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, errors.New("the zip's directory is too large")
	}
	return b.r.ReadAt(p, off)
}
