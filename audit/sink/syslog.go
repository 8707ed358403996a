package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// drainLook is how often the kernel is asked whether the receiver's has confirmed all bytes; the first looks come sooner.
const drainLook = 20 * time.Millisecond

var errClosed = errors.New("the receiver closed the connection")

// syslogger is a syslog receiver over TLS (RFC 5425). Records come as whole messages with their length in front.
//
// There is no acknowledgement. A batch counts as delivered when all of its bytes were written, the receiver's kernel
// has confirmed them, and the connection has not ended by then: nothing that a receiver which was already gone, or left
// while it was sent, could have missed. What it had in its buffers and did not process when it died is beyond that.
type syslogger struct {
	cfg    Config
	dialer tls.Dialer
	link   *link // nil while there is no connection
}

// link is one connection. A syslog receiver sends nothing, so whatever a read returns is its end.
type link struct {
	conn  *tls.Conn
	raw   *net.TCPConn
	ended chan struct{} // closed when a read returned
	done  sync.WaitGroup
}

func newSyslog(c Config, settings *tls.Config) *syslogger {
	return &syslogger{cfg: c, dialer: tls.Dialer{NetDialer: &net.Dialer{KeepAlive: 15 * time.Second}, Config: settings}}
}

func (s *syslogger) close() {
	if s.link == nil {
		return
	}
	s.link.conn.NetConn().SetDeadline(time.Now().Add(time.Second)) // for the closing words
	s.link.conn.Close()
	s.link.done.Wait()
	s.link = nil
}

// send writes one batch and waits until the receiver's kernel has it. After any error the connection is given up, so that
// a message that was cut off is never continued by another.
func (s *syslogger) send(ctx context.Context, items []item) error {
	if s.link != nil && s.link.over() {
		s.close()
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := s.link.write(ctx, items); err != nil {
		s.close()
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	return nil
}

func (s *syslogger) connect(ctx context.Context) error {
	if s.link != nil {
		return nil
	}
	conn, err := s.dialer.DialContext(ctx, "tcp", s.cfg.Address)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	if err != nil {
		return fmt.Errorf("connecting: %w", plain(err))
	}
	secured := conn.(*tls.Conn)
	l := &link{conn: secured, raw: secured.NetConn().(*net.TCPConn), ended: make(chan struct{})}
	l.done.Go(func() {
		defer close(l.ended)
		_, _ = l.conn.Read(make([]byte, 1)) // whatever comes, it is no syslog receiver that goes on listening
	})
	s.link = l
	return nil
}

func (l *link) over() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

func (l *link) write(ctx context.Context, items []item) error {
	stop := context.AfterFunc(ctx, func() { l.raw.SetDeadline(time.Unix(1, 0)) }) // ends writes that hang
	defer stop()
	var b []byte
	for i, it := range items {
		b = append(b, it.line...)
		if len(b) < 16<<10 && i < len(items)-1 { // as much as a TLS record holds
			continue
		}
		if _, err := l.conn.Write(b); err != nil {
			return fmt.Errorf("writing: %w", plain(err))
		}
		b = b[:0]
	}
	return l.drained(ctx)
}

// drained waits until the peer's TCP has confirmed every byte (ioctl SIOCOUTQ, tcp(7)), and then looks at whether the
// connection is still there: one that was reset has nothing left to send either.
func (l *link) drained(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, drainLook) {
		left, open, err := l.ask()
		switch {
		case err != nil:
			return fmt.Errorf("asking what was received: %w", err)
		case !open || l.over():
			return errClosed
		case left == 0:
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-l.ended:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// tcpEstablished is TCP_ESTABLISHED (include/net/tcp_states.h): the peer has neither closed nor reset the connection.
const tcpEstablished = 1

// ask returns how many bytes the peer has not confirmed, and whether the connection was open after that.
func (l *link) ask() (left int, open bool, err error) {
	raw, err := l.raw.SyscallConn()
	if err != nil {
		return 0, false, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		if left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err != nil {
			return
		}
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			open = info.State == tcpEstablished
		}
	})
	return left, open, errors.Join(err, controlErr)
}
