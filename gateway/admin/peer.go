package admin

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"sallyport/audit"
)

// noGroup is the group id that the kernel gives to nobody.
const noGroup = ^uint32(0)

// peer is the account at the other end of a connection, as the kernel remembers it from the moment it connected.
type peer struct {
	uid    uint32
	groups []uint32 // the primary group first
}

type peerKey struct{}

// withPeer is an http.Server's ConnContext: what is asked on the connection is asked by its peer. A connection whose
// peer is unknown gets none, and no right.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	p, err := peerOf(c)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, p)
}

func peerFrom(r *http.Request) (*peer, bool) {
	p, ok := r.Context().Value(peerKey{}).(*peer)
	return p, ok
}

func peerOf(c net.Conn) (*peer, error) {
	unixConn, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("%T is no Unix socket", c)
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var p *peer
	var failed error
	err = raw.Control(func(fd uintptr) { p, failed = credentials(int(fd)) })
	if err != nil {
		return nil, err
	}
	return p, failed
}

func credentials(fd int) (*peer, error) {
	ucred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, fmt.Errorf("asking who is connected: %w", err)
	}
	supplementary, err := peerGroups(fd)
	if err != nil {
		return nil, fmt.Errorf("asking for the groups of who is connected: %w", err)
	}
	return &peer{uid: ucred.Uid, groups: append([]uint32{ucred.Gid}, supplementary...)}, nil
}

// peerGroups asks for the supplementary groups (SO_PEERGROUPS, Linux 4.13, which x/sys has no call for). The kernel
// answers ERANGE with the size it needs.
func peerGroups(fd int) ([]uint32, error) {
	buffer := make([]byte, 64*4)
	for {
		size := uint32(len(buffer))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&buffer[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == syscall.ERANGE && int(size) > len(buffer):
			buffer = make([]byte, size)
			continue
		case errno != 0:
			return nil, errno
		}
		groups := make([]uint32, 0, size/4)
		for i := 0; i+4 <= int(size); i += 4 {
			groups = append(groups, binary.NativeEndian.Uint32(buffer[i:]))
		}
		return groups, nil
	}
}

// may tells whether the peer may operate the gateway: root, our own account, and the group.
func (p *peer) may(group uint32) bool {
	if p.uid == 0 || int(p.uid) == os.Geteuid() {
		return true
	}
	return group != noGroup && slices.Contains(p.groups, group)
}

// actor is the peer in the control log.
func (p *peer) actor() *audit.Actor { return Account(p.uid) }

// Account is an operating system account in the control log. Accounts are compared by number; the name is for people.
func Account(uid uint32) *audit.Actor {
	id := strconv.FormatUint(uint64(uid), 10)
	actor := &audit.Actor{Kind: "os", ID: "uid:" + id}
	if account, err := user.LookupId(id); err == nil {
		actor.Name = account.Username
	}
	return actor
}

// lookupGroup returns the number of a group given by name or number.
func lookupGroup(key, name string) (uint32, error) {
	if name == "" {
		return noGroup, nil
	}
	if number, err := strconv.ParseUint(name, 10, 32); err == nil && uint32(number) != noGroup {
		return uint32(number), nil
	}
	found, err := user.LookupGroup(name)
	if err != nil {
		return noGroup, fmt.Errorf("admin.%s: %w", key, err)
	}
	number, err := strconv.ParseUint(found.Gid, 10, 32)
	if err != nil {
		return noGroup, fmt.Errorf("admin.%s: %w", key, err)
	}
	return uint32(number), nil
}
