package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// magic opens both hellos, so that a program that dialled the wrong socket learns it at once.
const magic = "SPKEYD"

const helloLen = len(magic) + 2

// Offer is the client's side of the hello: it names its highest version and returns an error unless keyd settles on one
// that this build speaks.
func Offer(rw io.ReadWriter) error {
	if err := writeHello(rw, Version); err != nil {
		return err
	}
	v, err := readHello(rw)
	if err != nil {
		return err
	}
	if v != Version {
		return fmt.Errorf("keyd speaks no protocol version that we do: it answered %d, we speak %d", v, Version)
	}
	return nil
}

// Accept is keyd's side of the hello: it answers with the highest version that both speak, or 0 and an error.
func Accept(rw io.ReadWriter) error {
	v, err := readHello(rw)
	if err != nil {
		return err
	}
	if v < Version {
		return errors.Join(fmt.Errorf("peer offers protocol version %d, we speak %d", v, Version), writeHello(rw, 0))
	}
	return writeHello(rw, Version)
}

func writeHello(w io.Writer, version uint16) error {
	_, err := w.Write(binary.BigEndian.AppendUint16([]byte(magic), version))
	return err
}

func readHello(r io.Reader) (uint16, error) {
	var b [helloLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("reading hello: %w", cut(err))
	}
	if string(b[:len(magic)]) != magic {
		return 0, errors.New("reading hello: the peer does not speak this protocol")
	}
	return binary.BigEndian.Uint16(b[len(magic):]), nil
}
