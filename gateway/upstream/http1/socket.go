package http1

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket looks into a socket without waiting.
type socket struct {
	raw  syscall.RawConn
	look func(fd uintptr)

	// Between receive and look.
	into []byte
	n    int
	err  error
}

// socketOf is the socket under a connection, or nil.
func socketOf(c net.Conn) *socket {
	for {
		if direct, ok := c.(syscall.Conn); ok {
			raw, err := direct.SyscallConn()
			if err != nil {
				return nil
			}
			s := &socket{raw: raw}
			s.look = s.receiveFrom // made once: a request allocates nothing here
			return s
		}
		wrapper, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = wrapper.NetConn()
	}
}

// receive takes what waits in the socket, or errNothing. Of nil it only tells whether something waits.
func (s *socket) receive(p []byte) (int, error) {
	s.into, s.n, s.err = p, 0, nil
	if err := s.raw.Control(s.look); err != nil {
		return 0, err
	}
	s.into = nil
	return s.n, s.err
}

func (s *socket) receiveFrom(fd uintptr) {
	flags, into := unix.MSG_DONTWAIT, s.into
	var one [1]byte
	if into == nil {
		flags, into = flags|unix.MSG_PEEK, one[:]
	}
	for {
		n, _, err := unix.Recvfrom(int(fd), into, flags)
		switch err {
		case nil:
			if n == 0 {
				s.err = io.EOF
			}
			s.n = n
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			s.err = errNothing
		default:
			s.err = err
		}
		return
	}
}
