package wire

import "github.com/velosync/velosync/capture/change"

// An Ack tells the master what a device has applied and written down, so that the
// master may forget: the body of POST /v1/{space}/ack.
type Ack struct {
	Device change.DeviceID
	Seq    change.Seq // the device holds everything up to here
	LSN    change.LSN // the device knows that its log is applied up to here
}

// An AckReply is the answer: what the master holds as acknowledged by that device.
type AckReply struct {
	Seq change.Seq
	LSN change.LSN
}

type wireAck struct {
	Device []byte `cbor:"1,keyasint"`
	Seq    int64  `cbor:"2,keyasint,omitempty"`
	LSN    int64  `cbor:"3,keyasint,omitempty"`
}

type wireAckReply struct {
	Seq int64 `cbor:"1,keyasint,omitempty"`
	LSN int64 `cbor:"2,keyasint,omitempty"`
}

func checkAck(seq, lsn int64) error {
	if seq < 0 || lsn < 0 {
		return bad("counts below 0: seq %d, lsn %d", seq, lsn)
	}
	return nil
}

// EncodeAck returns the body of POST /v1/{space}/ack. An error is a *FormatError.
func EncodeAck(a Ack) ([]byte, error) {
	if err := checkAck(int64(a.Seq), int64(a.LSN)); err != nil {
		return nil, of(err, kindAck)
	}
	return seal(kindAck, &wireAck{Device: a.Device[:], Seq: int64(a.Seq), LSN: int64(a.LSN)}, 64)
}

// DecodeAck reads what EncodeAck wrote; its errors are those of DecodePush.
func DecodeAck(body []byte, l Limits) (Ack, error) {
	var a Ack
	err := open(kindAck, body, l.Defaults(), func(w *wireAck) (err error) {
		if a.Device, err = unpackID(w.Device, "the device id"); err != nil {
			return err
		}
		a.Seq, a.LSN = change.Seq(w.Seq), change.LSN(w.LSN)
		return checkAck(w.Seq, w.LSN)
	})
	if err != nil {
		return Ack{}, err
	}
	return a, nil
}

// EncodeAckReply returns the body of the answer to an ack. An error is a *FormatError.
func EncodeAckReply(a AckReply) ([]byte, error) {
	if err := checkAck(int64(a.Seq), int64(a.LSN)); err != nil {
		return nil, of(err, kindAckReply)
	}
	return seal(kindAckReply, &wireAckReply{Seq: int64(a.Seq), LSN: int64(a.LSN)}, 64)
}

// DecodeAckReply reads what EncodeAckReply wrote; its errors are those of DecodePush.
func DecodeAckReply(body []byte, l Limits) (AckReply, error) {
	var a AckReply
	err := open(kindAckReply, body, l.Defaults(), func(w *wireAckReply) error {
		a = AckReply{Seq: change.Seq(w.Seq), LSN: change.LSN(w.LSN)}
		return checkAck(w.Seq, w.LSN)
	})
	if err != nil {
		return AckReply{}, err
	}
	return a, nil
}
