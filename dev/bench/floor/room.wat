;; What `dev/bench/party` decides, by hand and with nothing else. One text at a time lies at 0; an answer takes its place.
(module
  (memory (export "memory") 2)
  (data (i32.const 65536) "The room has answered.")

  ;; What a message of `length` bytes asks for: 1 is an echo, which then lies at 0; 2 is a broadcast.
  (func (export "message") (param $length i32) (param $has_answered i32) (result i32)
    (local $first i32)
    (local.set $first (i32.load8_u (i32.const 0)))
    (if (i32.eq (local.get $first) (i32.const 101)) ;; e
      (then
        (i32.store8 (i32.const 0) (i32.const 97)) ;; a
        (i32.store8 (i32.const 1)
          (select (i32.const 46) (i32.const 49) (local.get $has_answered))) ;; . or 1
        (return (i32.const 1))))
    (if (i32.eq (local.get $first) (i32.const 98)) ;; b
      (then (return (i32.const 2))))
    (i32.const 0))

  ;; Where the room's name begins in the address at 0, which has `length` bytes.
  (func (export "room") (param $length i32) (result i32)
    (local $at i32)
    (local.set $at (local.get $length))
    (loop $back
      (if (i32.eqz (local.get $at)) (then (return (i32.const 0))))
      (if (i32.eq (i32.load8_u (i32.sub (local.get $at) (i32.const 1))) (i32.const 47)) ;; /
        (then (return (local.get $at))))
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (br $back))
    (unreachable))

  ;; Answers a request. Returns how many bytes lie at 0 then.
  (func (export "request") (param $length i32) (result i32)
    (memory.copy (i32.const 0) (i32.const 65536) (i32.const 22))
    (i32.const 22)))
