"""CIFAR-10: 50,000 + 10,000 photographs of 32x32 pixels in ten classes.

The classes are airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.
"""

from vitpipe.sources.cifar import Cifar

DATA_SET = Cifar("CIFAR10")
fetch, samples, open_images = DATA_SET.fetch, DATA_SET.samples, DATA_SET.open_images
