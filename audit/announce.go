package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"sallyport/audit/segment"
)

// announceSegment is the size of the segment that an announcement gets to itself: as small as a segment may be, since
// nothing else goes into it.
const announceSegment = smallestSegment

// Announce appends one record to the control log of a directory that no gateway is writing, durably, and gives the
// directory back: a read of the log is itself recorded, also when there is no gateway to ask. It repairs the control
// log as Open does and leaves the decision log alone. ErrLocked says that a gateway runs after all and is to be asked;
// a directory that was never written to is an error.
func Announce(ctx context.Context, cfg Config, opts Options, r *Record) (Receipt, error) {
	receipt, err := announce(ctx, cfg, opts, r)
	if err != nil {
		return Receipt{}, fmt.Errorf("announcing a read of the audit log: %w", err)
	}
	return receipt, nil
}

func announce(ctx context.Context, cfg Config, opts Options, r *Record) (_ Receipt, err error) {
	opts.fill(cfg)
	opts.segmentSize = announceSegment
	fs := opts.FS
	if fs == nil {
		if fs, err = openDirectory(cfg.Dir); err != nil {
			return Receipt{}, err
		}
	}
	a, err := hold(fs)
	if err != nil {
		return Receipt{}, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if err := a.startControl(opts); err != nil {
		return Receipt{}, err
	}
	return a.control.Append(ctx, r)
}

// startControl starts the control log alone.
func (a *Audit) startControl(opts Options) error {
	decisions, err := lastHeader(a.fs, DecisionLog)
	if err != nil {
		return err
	}
	control, err := openHistory(a.fs, ControlLog)
	if err != nil {
		return err
	}
	if decisions == nil || control.last == nil {
		return errors.New("there is no audit log in this directory")
	}
	a.boot = Boot{ID: uuid.NewString(), N: 1 + max(decisions.BootN, control.bootN())}
	l, err := newLog(a.logConfig(ControlLog, opts, opts.segmentSize), control)
	if err != nil {
		return err
	}
	a.control = l
	a.now, a.keepers = opts.Now, []*keeper{a.newKeeper(l, opts)}
	l.start()
	return nil
}

// lastHeader is the header of a log's newest segment; nil when there is none.
func lastHeader(fs FileSystem, log string) (*segment.Header, error) {
	numbers, err := listSegments(fs, log)
	if err != nil || len(numbers) == 0 {
		return nil, err
	}
	return openHeader(fs, log, numbers[len(numbers)-1])
}
