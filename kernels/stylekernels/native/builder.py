"""LLVM's IR with Python's operators: vectors of floats, integers, pointers and loops.

Formulas are so written once, as Python functions of +, - and *, and serve tensors as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

INT = ir.IntType(64)
FLOAT = ir.FloatType()
POINTER = ir.PointerType()
_CODE = ir.IntType(32)  # as wide as a float, so that masks fit both
_BYTE = ir.IntType(8)


class Int:
    """A 64-bit integer."""

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Int | int) -> Int:
        return Int(self.builder, self.builder.add(self.value, _int(other)))

    def __sub__(self, other: Int | int) -> Int:
        return Int(self.builder, self.builder.sub(self.value, _int(other)))

    def __mul__(self, other: Int | int) -> Int:
        return Int(self.builder, self.builder.mul(self.value, _int(other)))

    def __floordiv__(self, other: Int | int) -> Int:
        return Int(self.builder, self.builder.sdiv(self.value, _int(other)))

    def at_most(self, other: Int | int) -> Int:
        """The smaller of the two."""
        value = self.builder.select(self.less(other), self.value, _int(other))
        return Int(self.builder, value)

    def less(self, other: Int | int) -> Any:
        """Whether it is below ``other``, as one bit."""
        return self.builder.icmp_signed("<", self.value, _int(other))

    def equals(self, other: int) -> Any:
        """Whether it is ``other``."""
        return self.builder.icmp_signed("==", self.value, _int(other))

    def differs(self, other: int) -> Any:
        """Whether it is not ``other``."""
        return self.builder.icmp_signed("!=", self.value, _int(other))

    def within(self, stop: Int | int) -> Any:
        """Whether it is at least 0 and below ``stop``: a negative one is large unsigned."""
        return self.builder.icmp_unsigned("<", self.value, _int(stop))


class Vector:
    """Some floats, of which a product and a sum after it are rounded once."""

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Vector) -> Vector:
        return self._of(self.builder.fadd(self.value, other.value, flags=("contract",)))

    def __sub__(self, other: Vector) -> Vector:
        return self._of(self.builder.fsub(self.value, other.value, flags=("contract",)))

    def __mul__(self, other: Vector | float) -> Vector:
        return self._of(self.builder.fmul(self.value, self._like(other), flags=("contract",)))

    __rmul__ = __mul__

    def relu(self) -> Vector:
        """The vector with 0 in the place of what is below; NaN stays."""
        zero = self._like(0.0)
        negative = self.builder.fcmp_ordered("<", self.value, zero)
        return self._of(self.builder.select(negative, zero, self.value))

    def above(self, other: Vector) -> Mask:
        """Lanes above ``other``, and those that are no numbers."""
        higher = self.builder.fcmp_ordered(">", self.value, other.value)
        no_number = self.builder.fcmp_unordered("uno", self.value, self.value)
        return Mask(self.builder, self.builder.or_(higher, no_number))

    def nonzero(self) -> Mask:
        """Lanes that are not 0; NaN is none."""
        return Mask(self.builder, self.builder.fcmp_unordered("!=", self.value, self._like(0.0)))

    def _of(self, value: Any) -> Vector:
        return Vector(self.builder, value)

    def _like(self, other: Vector | float) -> Any:
        if isinstance(other, Vector):
            return other.value
        return ir.Constant(self.value.type, [float(other)] * self.value.type.count)


class Mask:
    """Some bits, one a lane."""

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.builder, self.value = builder, value

    def choose(self, yes: Vector, no: Vector) -> Vector:
        """Lanes of ``yes`` where it is set, of ``no`` elsewhere."""
        return Vector(self.builder, self.builder.select(self.value, yes.value, no.value))

    def codes(self, yes: Codes | int, no: Codes | int) -> Codes:
        """Likewise of small integers."""
        lanes = self.value.type.count
        values = [Codes.of(self.builder, one, lanes).value for one in (yes, no)]
        return Codes(self.builder, self.builder.select(self.value, *values))


class Codes:
    """Some small integers, one a lane; a byte each in memory."""

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.builder, self.value = builder, value

    @classmethod
    def of(cls, builder: ir.IRBuilder, value: Codes | int, lanes: int) -> Codes:
        """``value`` itself, or the same integer in every lane."""
        if isinstance(value, Codes):
            return value
        return cls(builder, ir.Constant(ir.VectorType(_CODE, lanes), [value] * lanes))

    def __or__(self, other: Codes) -> Codes:
        return Codes(self.builder, self.builder.or_(self.value, other.value))

    def has(self, bit: int) -> Mask:
        """Lanes that have ``bit`` set."""
        wanted = Codes.of(self.builder, bit, self.value.type.count).value
        return Mask(
            self.builder,
            self.builder.icmp_unsigned("==", self.builder.and_(self.value, wanted), wanted),
        )


class Pointer:
    """An address of floats."""

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, floats: Int | int) -> Pointer:
        return Pointer(
            self.builder, self.builder.gep(self.value, [_int(floats)], source_etype=FLOAT)
        )

    def or_else(self, condition: Any, other: Pointer) -> Pointer:
        """This address where ``condition`` holds, else ``other``."""
        return Pointer(self.builder, self.builder.select(condition, self.value, other.value))

    def load(self, lanes: int) -> Vector:
        """So many floats from here on."""
        kind = ir.VectorType(FLOAT, lanes)
        return Vector(self.builder, self.builder.load(self.value, align=4, typ=kind))

    def splat(self, lanes: int) -> Vector:
        """The one float here, in every lane."""
        scalar = self.builder.load(self.value, align=4, typ=FLOAT)
        kind = ir.VectorType(FLOAT, lanes)
        first = self.builder.insert_element(
            ir.Constant(kind, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
        )
        mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        return Vector(
            self.builder,
            self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), mask),
        )

    def store(self, vector: Vector) -> None:
        """Write a vector from here on."""
        self.builder.store(vector.value, self.value, align=4)

    def bytes_on(self, count: Int) -> Pointer:
        """The address so many bytes on."""
        place = self.builder.gep(self.value, [count.value], source_etype=_BYTE)
        return Pointer(self.builder, place)

    def load_codes(self, lanes: int) -> Codes:
        """So many bytes from here on."""
        kind = ir.VectorType(_BYTE, lanes)
        narrow = self.builder.load(self.value, align=1, typ=kind)
        return Codes(self.builder, self.builder.zext(narrow, ir.VectorType(_CODE, lanes)))

    def store_codes(self, codes: Codes) -> None:
        """Write a byte for each lane from here on."""
        kind = ir.VectorType(_BYTE, codes.value.type.count)
        self.builder.store(self.builder.trunc(codes.value, kind), self.value, align=1)


class Variable:
    """A vector that changes."""

    def __init__(self, builder: ir.IRBuilder, place: Any) -> None:
        self.builder, self.place = builder, place

    def get(self) -> Vector:
        """The vector that was set last."""
        kind = self.place.allocated_type
        return Vector(self.builder, self.builder.load(self.place, typ=kind))

    def set(self, vector: Vector) -> None:
        """Replace it."""
        self.builder.store(vector.value, self.place)


class Function:
    """One ``void function(int64 *arguments)`` under construction.

    Args:
        module: that it becomes part of.
        name: of the function.
    """

    def __init__(self, module: ir.Module, name: str) -> None:
        kind = ir.FunctionType(ir.VoidType(), [POINTER])
        self._function = ir.Function(module, kind, name)
        self.builder = ir.IRBuilder(self._function.append_basic_block("entry"))

    def argument(self, index: int) -> Int:
        """The integer at ``index`` of the arguments."""
        return Int(self.builder, self.builder.load(self._slot(index), align=8, typ=INT))

    def pointer(self, index: int) -> Pointer:
        """The address at ``index`` of the arguments."""
        return Pointer(self.builder, self.builder.load(self._slot(index), align=8, typ=POINTER))

    def count_up(self, index: int) -> Int:
        """The integer at ``index``, which threads share, before 1 is added to it."""
        one = ir.Constant(INT, 1)
        before = self.builder.atomic_rmw("add", self._slot(index), one, "monotonic")
        return Int(self.builder, before)

    def constant(self, value: float, lanes: int) -> Vector:
        """The same float in so many lanes."""
        kind = ir.VectorType(FLOAT, lanes)
        return Vector(self.builder, ir.Constant(kind, [value] * lanes))

    def variable(self, lanes: int) -> Variable:
        """A vector that changes; it becomes a register."""
        return Variable(self.builder, self._place(ir.VectorType(FLOAT, lanes)))

    @contextmanager
    def loop(self, stop: Int | int, step: int = 1) -> Iterator[Int]:
        """Do what is written within for 0, ``step``, 2 ``step`` and so on below ``stop``."""
        index = self._place(INT)
        self.builder.store(ir.Constant(INT, 0), index)
        with self._while(lambda: Int(self.builder, self.builder.load(index, typ=INT)).less(stop)):
            now = Int(self.builder, self.builder.load(index, typ=INT))
            yield now
            self.builder.store((now + step).value, index)

    @contextmanager
    def shared_loop(self, counter: int, stop: Int) -> Iterator[Int]:
        """Do what is written within for numbers below ``stop``, each on one thread alone."""
        index = self._place(INT)

        def proceed() -> Any:
            taken = self.count_up(counter)
            self.builder.store(taken.value, index)
            return taken.less(stop)

        with self._while(proceed):
            yield Int(self.builder, self.builder.load(index, typ=INT))

    @contextmanager
    def when(self, condition: Any) -> Iterator[None]:
        """Do what is written within where ``condition`` holds."""
        body, after = (self._function.append_basic_block() for _ in range(2))
        self.builder.cbranch(condition, body, after)
        self.builder.position_at_end(body)
        yield
        self.builder.branch(after)
        self.builder.position_at_end(after)

    def finish(self) -> None:
        """End the function."""
        self.builder.ret_void()

    @contextmanager
    def _while(self, condition: Any) -> Iterator[None]:
        check, body, after = (self._function.append_basic_block() for _ in range(3))
        self.builder.branch(check)
        self.builder.position_at_end(check)
        self.builder.cbranch(condition(), body, after)
        self.builder.position_at_end(body)
        yield
        self.builder.branch(check)
        self.builder.position_at_end(after)

    def _place(self, kind: Any) -> Any:
        with self.builder.goto_entry_block():
            return self.builder.alloca(kind)

    def _slot(self, index: int) -> Any:
        place = [ir.Constant(INT, index)]
        return self.builder.gep(self._function.args[0], place, source_etype=INT)


def _int(value: Int | int) -> Any:
    return value.value if isinstance(value, Int) else ir.Constant(INT, value)
