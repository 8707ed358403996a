package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// plain says what went wrong with a receiver in words of ours: the texts of other packages quote what a receiver sent, or
// what its certificate says, and they would end up in logs, status and signed records.
func plain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, errTimeout) || errors.Is(err, errClosed) {
		return err
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return errTimeout
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return errors.New("the receiver's name is not known")
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return errors.New("the receiver's certificate is not trusted for its name")
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return errors.New("the receiver does not speak TLS")
	}
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		return fmt.Errorf("TLS: %w", alert)
	}
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return fmt.Errorf("the connection failed: %w", number)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return errClosed
	}
	return errors.New("the receiver does not speak the protocol, or no TLS protocol version from 1.2 on")
}
